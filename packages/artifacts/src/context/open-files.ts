// Opens files of a context that other processes may change: the open file is checked, not its path.

import {
  type BigIntStats,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readlinkSync,
  readSync,
  realpathSync,
} from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { errnoOf } from "../streams.ts";
import { quote } from "./path-names.ts";

const CHUNK_BYTES = 64 * 1024;

/** The real path, or null if nothing is there. */
export function realpathOf(path: string): string | null {
  try {
    return realpathSync(path);
  } catch (error) {
    if (errnoOf(error) === "EACCES") {
      throw new FormationError("forbidden", `The directory ${quote(path)} cannot be read by the server.`, {
        field: "context_dir",
        remedy: "Give it to the server's user to read.",
      });
    }
    return null;
  }
}

/** Opens a regular file. If a link or a pipe has taken its place, it is neither followed nor waited for. */
export function openInside(root: string, name: string): { descriptor: number; stat: BigIntStats } {
  const path = join(root, name);
  let descriptor: number;
  try {
    descriptor = openSync(
      path,
      constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY,
    );
  } catch (error) {
    if (errnoOf(error) === "EACCES" || errnoOf(error) === "EPERM") throw unreadable(name, error);
    throw changed(name, error);
  }
  try {
    const stat = fstatSync(descriptor, { bigint: true });
    if (!stat.isFile() || realpathOfOpen(descriptor, path) !== path) throw changed(name);
    return { descriptor, stat };
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
}

/** The real path of an open file: a parent directory may have become a link after the walk. */
function realpathOfOpen(descriptor: number, path: string): string | null {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return realpathOf(path); // no /proc: not Linux
  }
}

/** Exactly the first `bytes` bytes of an open file. */
export async function* contentOf(
  descriptor: number,
  name: string,
  bytes: number,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes; ) {
    if (signal?.aborted) throw cancelled();
    const chunk = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, bytes - at));
    const got = readSync(descriptor, chunk, 0, chunk.length, at);
    if (got === 0) throw changed(name);
    at += got;
    yield chunk.subarray(0, got);
  }
}

export function unreadable(name: string, cause: unknown): FormationError {
  return new FormationError("invalid", `The file ${quote(name)} cannot be read by the server.`, {
    cause,
    field: "context_dir",
    remedy: "Give it to the server's user to read, or list it in .dockerignore.",
  });
}

export function changed(name: string, cause?: unknown): FormationError {
  return new FormationError("conflict", `The file ${quote(name)} changed while the context was packed.`, {
    cause,
    field: "context_dir",
    remedy: "Try again when nothing writes there, or list the file in .dockerignore.",
  });
}

export function cancelled(): FormationError {
  return new FormationError("cancelled", "Packing the context was cancelled.");
}
