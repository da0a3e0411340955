// Reads the .dockerignore of a context directory
// (https://docs.docker.com/build/concepts/context/#dockerignore-files).

import { closeSync, lstatSync } from "node:fs";
import { join } from "node:path";
import ignore from "@balena/dockerignore";
import { FormationError } from "@formation-mcp/contract";
import { contentOf, openInside } from "./open-files.ts";

const FILE_NAME = ".dockerignore";
const MAX_BYTES = 64 * 1024;

export interface IgnoreRules {
  ignores(path: string): boolean;
  /** Whether something below an ignored directory may still be included. */
  hasExceptions: boolean;
}

/** @throws FormationError `invalid` if it cannot be read or parsed. */
export async function readIgnoreRules(root: string): Promise<IgnoreRules> {
  const stats = lstatSync(join(root, FILE_NAME), { throwIfNoEntry: false });
  if (!stats) return { ignores: () => false, hasExceptions: false };
  if (!stats.isFile() || stats.size > MAX_BYTES) {
    throw wrong(stats.isFile() ? `is larger than ${MAX_BYTES} bytes` : "is not a regular file");
  }
  const { descriptor } = openInside(root, FILE_NAME);
  try {
    const parts: Uint8Array[] = [];
    for await (const part of contentOf(descriptor, FILE_NAME, stats.size, undefined)) parts.push(part);
    return rulesOf(Buffer.concat(parts).toString("utf8"));
  } finally {
    closeSync(descriptor);
  }
}

function rulesOf(text: string): IgnoreRules {
  const rules = ignore.default({ ignorecase: false }).add(text);
  return {
    ignores: (path) => {
      try {
        return rules.ignores(path);
      } catch (error) {
        throw wrong("holds a pattern that cannot be understood", error);
      }
    },
    hasExceptions: text.split("\n").some((line) => line.trimStart().startsWith("!")),
  };
}

function wrong(what: string, cause?: unknown): FormationError {
  return new FormationError("invalid", `The context's .dockerignore ${what}.`, {
    cause,
    field: "context_dir",
    remedy: "Correct or remove it.",
  });
}
