// Reading settings: the command line over the environment over a settings file, parsed section by section,
// with every problem reported at once.

import { FormationError } from "@formation-mcp/contract";
import { readSettingsFile } from "./file.ts";
import { unknownVariables } from "./names.ts";
import {
  type Environment,
  isSetting,
  type ProgramName,
  type Section,
  type Setting,
  type SettingTree,
  type Values,
} from "./setting.ts";
import { fileSettingsOf } from "./table.ts";

/** The settings of one program start, unparsed, and what is wrong with them so far. */
export interface GivenSettings {
  /** Variables that are set and not empty, those of the file included. */
  environment: Record<string, string>;
  /** Variables that begin like ours and change nothing. */
  unknown: string[];
  /** One line each. */
  problems: string[];
}

/** Gathers what the environment and the settings file say. */
export function gather(program: ProgramName, environment: Environment, file?: string): GivenSettings {
  const fromFile =
    file === undefined ? { given: {}, problems: [] } : readSettingsFile(file, fileSettingsOf(program));
  const given = withoutEmpty({ ...fromFile.given, ...withoutEmpty(environment) });
  const { misspelt, unknown } = unknownVariables(given);
  return { environment: given, unknown, problems: [...fromFile.problems, ...misspelt] };
}

/**
 * Parses a section, and adds what is wrong to the problems of `given`. `check` sees the values only if each
 * is right by itself.
 * @returns null if a value is wrong.
 */
export function parseSection<T extends SettingTree>(
  { settings }: Section<T>,
  given: Pick<GivenSettings, "environment" | "problems">,
  check: (values: Values<T>) => string[] = () => [],
): Values<T> | null {
  const problems: string[] = [];
  const values = parseTree(settings, given.environment, problems) as Values<T>;
  given.problems.push(...problems, ...(problems.length === 0 ? check(values) : []));
  return problems.length === 0 ? values : null;
}

/** @throws FormationError `invalid`, naming every problem. */
export function wrongSettings(problems: readonly string[]): FormationError {
  return new FormationError("invalid", `The settings are wrong:\n  ${problems.join("\n  ")}`, {
    remedy: "Set these right; `--help` lists all settings.",
  });
}

function parseTree(tree: SettingTree, environment: Environment, problems: string[]): Record<string, unknown> {
  const entries = Object.entries(tree).map(([key, node]) => [
    key,
    isSetting(node) ? parseSetting(node, environment, problems) : parseTree(node, environment, problems),
  ]);
  return Object.fromEntries(entries);
}

function parseSetting(setting: Setting, environment: Environment, problems: string[]): unknown {
  const text = environment[setting.name];
  if (text === undefined) return setting.fallback(environment);
  const parsed = setting.schema().safeParse(text);
  if (parsed.success) return parsed.data;
  // Once for all entries of a list.
  const messages = new Set(parsed.error.issues.map(({ message }) => message));
  problems.push(...[...messages].map((message) => `${setting.name}: ${message}`));
  return undefined;
}

/** A variable that is empty is not set. */
export function withoutEmpty(environment: Environment): Record<string, string> {
  const kept = Object.entries(environment).filter(([, value]) => value !== undefined && value !== "");
  return Object.fromEntries(kept) as Record<string, string>;
}
