// Files that readers see whole or not at all: written under a temporary name, synced to disk, then renamed.

import { randomBytes } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fsyncSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify } from "./processes.ts";

const TEMPORARY_NAME = /\.(\d+)-[0-9a-f]{12}\.tmp$/;

/**
 * Writes a file so that readers see the old content or the new content, never a part of it, also after a
 * crash. A crash may leave a temporary file, which {@link removeTemporaryFiles} removes.
 * @param mode the file's permissions, independent of the umask.
 * @throws FormationError `unavailable` if it cannot be written; the old file is then unchanged.
 */
export function writeFileAtomic(path: string, content: string | Uint8Array, mode = 0o600): void {
  const temporary = `${path}.${process.pid}-${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = openSync(temporary, "wx", mode);
    try {
      fchmodSync(file, mode);
      const bytes = typeof content === "string" ? Buffer.from(content) : content;
      for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (error) {
    try {
      rmSync(temporary, { force: true });
    } catch {
      // The first error is reported.
    }
    throw fileError(path, "written", error);
  }
}

/**
 * Removes temporary files that {@link writeFileAtomic} left in a directory because its process was killed.
 * Files of living processes are kept.
 * @returns how many files were removed.
 */
export function removeTemporaryFiles(directory: string): number {
  let removed = 0;
  try {
    for (const name of readdirSync(directory)) {
      const pid = TEMPORARY_NAME.exec(name)?.[1];
      if (pid === undefined || (identify(Number(pid)) && Number(pid) !== process.pid)) continue;
      rmSync(join(directory, name), { force: true });
      removed++;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw fileError(directory, "tidied", error);
  }
  return removed;
}

/**
 * Syncs a directory to disk, so that its entries survive a crash (fsync(2)).
 * @throws FormationError `unavailable` if it cannot be opened.
 */
export function syncDirectory(path: string): void {
  try {
    const directory = openSync(path, "r");
    try {
      fsyncSync(directory);
    } finally {
      closeSync(directory);
    }
  } catch (error) {
    throw fileError(path, "made durable", error);
  }
}

/**
 * Reads a text file; null if it does not exist.
 * @throws FormationError `unavailable` if it exists and cannot be read.
 */
export function readFileIfPresent(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw fileError(path, "read", error);
  }
}

function fileError(path: string, what: string, error: unknown): FormationError {
  if (error instanceof FormationError) return error;
  const cause = error as NodeJS.ErrnoException;
  return new FormationError("unavailable", `${path} cannot be ${what}: ${cause.message}.`, {
    cause,
    remedy:
      cause.code === "ENOSPC" || cause.code === "EDQUOT"
        ? "Make room on the disk that holds it."
        : "Check that its directory exists and belongs to the user who runs this.",
  });
}
