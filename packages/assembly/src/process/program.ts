// Which program this is, and the copy of it in the state directory that the background worker runs from.

import { randomBytes } from "node:crypto";
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";

/** The program that can run `worker`: a bundle, or its source in the workspace. */
export interface Program {
  version: string;
  /** Absolute path of its entry file. */
  entry: string;
  /** The name of its copies. Default: formation-mcp. */
  name?: string;
}

/**
 * The command that starts a subcommand of a program. A bundle (`.mjs`) is copied into the state directory
 * first, because npx and desktop extensions delete their folders while the worker still runs.
 */
export function commandFor(
  program: Program,
  versions: string,
  args: string[],
): { file: string; args: string[] } {
  if (!program.entry.endsWith(".mjs")) {
    return { file: process.execPath, args: ["--conditions=formation-source", program.entry, ...args] };
  }
  const copy = join(versions, `${program.name ?? "formation-mcp"}-${program.version}.mjs`);
  if (program.entry !== copy) copyOver(program.entry, versions, copy);
  return { file: process.execPath, args: [copy, ...args] };
}

function copyOver(from: string, directory: string, to: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const temporary = `${to}.${randomBytes(6).toString("hex")}`;
  try {
    copyFileSync(from, temporary);
    chmodSync(temporary, 0o600);
    renameSync(temporary, to);
  } finally {
    if (existsSync(temporary)) rmSync(temporary, { force: true });
  }
}

/** Compares two versions in semver order, without pre-release parts. Negative if `a` is older. */
export function compareVersions(a: string, b: string): number {
  const parts = (text: string) => (text.split("-")[0] ?? "").split(".").map(Number);
  const [left, right] = [parts(a), parts(b)];
  for (let i = 0; i < 3; i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}
