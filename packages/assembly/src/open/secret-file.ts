// A secret of this machine in a file: random bytes that the first process creates and that never change.

import { randomBytes } from "node:crypto";
import {
  closeSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { syncDirectory } from "@formation-mcp/os";
import type { Layout } from "./layout.ts";

const KEY_BYTES = 32;

/** The key that seals signing keys in the database. Other secrets of the HTTP server are derived from it. */
export function masterKeyOf(layout: Layout, file: string | null): Uint8Array {
  return file === null ? secretFile(layout.masterKey, KEY_BYTES) : givenSecret(file);
}

/** The operator makes a secret that several machines share; it is never created here. */
function givenSecret(path: string): Uint8Array {
  let secret: Uint8Array;
  try {
    secret = readFileSync(path);
  } catch (error) {
    throw unusable(path, (error as NodeJS.ErrnoException).code ?? "it can't be read", error);
  }
  if (secret.length !== KEY_BYTES) throw unusable(path, `it has ${secret.length} bytes and not ${KEY_BYTES}`);
  return secret;
}

/**
 * Reads a secret, or creates it. Processes that do this at the same time all get the same secret.
 * @throws FormationError `unavailable` if it can't be read or created, or does not look like a secret created
 *   here. An existing file is never replaced.
 */
function secretFile(path: string, bytes: number): Uint8Array {
  try {
    return readIfMade(path, bytes) ?? make(path, bytes);
  } catch (error) {
    if (error instanceof FormationError) throw error;
    throw unusable(path, (error as Error).message, error);
  }
}

function readIfMade(path: string, bytes: number): Uint8Array | null {
  try {
    const secret = readFileSync(path);
    if ((statSync(path).mode & 0o077) !== 0) throw unusable(path, "others may read it");
    if (secret.length !== bytes) throw unusable(path, `it has ${secret.length} bytes and not ${bytes}`);
    return secret;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    throw error;
  }
}

function make(path: string, bytes: number): Uint8Array {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = openSync(temporary, "wx", 0o600);
    try {
      writeSync(file, randomBytes(bytes));
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    // link(2) never replaces a file, so the second process finds the secret of the first.
    linkSync(temporary, path);
    syncDirectory(dirname(path));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    rmSync(temporary, { force: true });
  }
  const made = readIfMade(path, bytes);
  if (!made) throw unusable(path, "it vanished");
  return made;
}

function unusable(path: string, why: string, cause?: unknown): FormationError {
  return new FormationError("unavailable", `The secret in ${path} can't be used: ${why}.`, {
    cause,
    remedy:
      "Bring it back from a backup, private to its user (chmod 600); without it nobody stays signed in.",
  });
}
