// Files that are whole or absent: written beside their place, made durable, then moved into it.

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

const TEMPORARY = /\.(\d+)-[0-9a-f]{12}\.tmp$/;

/**
 * Writes a file so that a reader, also after a crash, sees the old content or the new one, never a part. What a crash
 * leaves beside it, {@link removeTemporaries} removes.
 * @param mode the file's permissions, whatever the umask.
 * @throws FormationError `unavailable` if it cannot be written; the old file is untouched then.
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
      // The first error is the one to tell.
    }
    throw unusable(path, "written", error);
  }
}

/**
 * Removes what {@link writeFileAtomic} left in a directory when its process was killed. Returns how many files went; a
 * living writer's are left alone.
 */
export function removeTemporaries(directory: string): number {
  let removed = 0;
  try {
    for (const name of readdirSync(directory)) {
      const pid = TEMPORARY.exec(name)?.[1];
      if (pid === undefined || (identify(Number(pid)) && Number(pid) !== process.pid)) continue;
      rmSync(join(directory, name), { force: true });
      removed++;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw unusable(directory, "tidied", error);
  }
  return removed;
}

/**
 * Makes the names in a directory durable.
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
    throw unusable(path, "made durable", error);
  }
}

/**
 * A file's text, or null if there is none.
 * @throws FormationError `unavailable` if it is there and cannot be read.
 */
export function readIfThere(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw unusable(path, "read", error);
  }
}

function unusable(path: string, what: string, error: unknown): FormationError {
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
