// What a setting is: one value with its name, its help, its schema and its default. Sections say which
// programs have the settings in them, and whether a settings file may hold them. Everything else about
// settings is derived from these values.

import type { z } from "zod";

export type Environment = Readonly<Record<string, string | undefined>>;

/** A program of this project, by the name of its command. */
export type ProgramName = "formation-mcp" | "formation-mcp-http" | "formation-mcp-worker";

/** How the text of a variable becomes a value, and what the value is if the variable is not set. */
export interface SettingKind<T> {
  /**
   * Makes the schema of the variable's text. Called only if the variable is set: schemas cost time at each
   * start.
   */
  schema: () => z.ZodType<T>;
  /** The value if the variable is not set. */
  fallback: (environment: Environment) => T;
  /** The default, as help shows it; null if there is none to show. */
  default: string | null;
  /** What separates the entries of a list, if it is not a comma. */
  separator?: string;
}

export interface Setting<T = unknown> extends SettingKind<T> {
  /** The environment variable. */
  name: string;
  /** One line for `--help` and docs/settings.md, without the default. */
  help: string;
}

/** Settings by the name that the code gives them, in groups where that helps. */
export interface SettingTree {
  readonly [key: string]: Setting | SettingTree;
}

/** The typed configuration that a tree of settings describes. */
export type Values<T> = {
  [K in keyof T]: T[K] extends SettingKind<infer V> ? V : Values<T[K]>;
};

export interface Section<T extends SettingTree = SettingTree> {
  /** Completes "Settings of …". */
  title: string;
  programs: readonly ProgramName[];
  /** Whether a settings file may hold these. */
  inFile: boolean;
  settings: T;
}

/** The settings of a tree in their order. */
export function settingsIn(tree: SettingTree): Setting[] {
  return Object.values(tree).flatMap((each) => (isSetting(each) ? [each] : settingsIn(each)));
}

export function isSetting(node: Setting | SettingTree): node is Setting {
  return typeof (node as Partial<Setting>).name === "string";
}

/** The key of a setting in a settings file: its name in lower case, without the prefix. */
export function fileKey({ name }: Pick<Setting, "name">): string {
  return name.replace(/^FORMATION_/, "").toLowerCase();
}

/** A group whose settings go together: null if one of them is not set. */
export function complete<T extends object>(group: T): { [K in keyof T]: NonNullable<T[K]> } | null {
  const set = Object.values(group).every((value) => value !== null);
  return set ? (group as { [K in keyof T]: NonNullable<T[K]> }) : null;
}
