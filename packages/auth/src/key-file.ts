// A private key in a file, readable by its owner only, or sealed with a passphrase as well. A file is written
// completely or not at all, and an existing file is never overwritten unless that is asked for.

import { constants } from "node:fs";
import { type FileHandle, link, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { formatKeyFile, isSealed, parseKeyFile } from "./key-file/format.ts";
import type { KeyPair } from "./keys/pair.ts";

export type { KeyPair };

const MAX_BYTES = 64 * 1024;
const READABLE_BY_OTHERS = 0o077;

/**
 * Writes a key to a file of mode 0600. A missing directory is made with mode 0700.
 * @param options.passphrase seals the key with it (scrypt, AES-256-GCM). Default: the key is not sealed.
 * @param options.scryptN scrypt's cost N for a sealed key: a power of two from 2^14 to 2^18. Default: 2^17
 *   (OWASP), 128 MiB for each guess. Tests use the least.
 * @param options.overwrite whether an existing file may be replaced. Default: false.
 * @throws FormationError `conflict` if the file exists; `unavailable` if it cannot be written; `invalid` for
 *   an empty passphrase or a cost out of range.
 */
export async function saveKeyFile(
  path: string,
  key: KeyPair,
  options: { passphrase?: string; scryptN?: number; overwrite?: boolean } = {},
): Promise<void> {
  const text = await formatKeyFile(key, options);
  const suffix = Buffer.from(crypto.getRandomValues(new Uint8Array(6))).toString("hex");
  const temporary = `${path}.${suffix}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    await write(temporary, text);
    // link(2) fails if the name exists; rename(2) replaces it. Both are atomic.
    if (options.overwrite) await rename(temporary, path);
    else await link(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") {
      throw new FormationError("conflict", `There is a file at ${path} already.`, {
        remedy: "Choose another name: a key that is overwritten is lost.",
        field: "path",
      });
    }
    throw unusable(path, "written", error);
  } finally {
    await rm(temporary, { force: true });
  }
}

/**
 * Reads a key from a file that {@link saveKeyFile} wrote, or that holds it as hexadecimal digits, PEM or JWK.
 * @param options.passphrase opens a sealed key.
 * @throws FormationError `not_found`; `forbidden` if the key is not sealed and users other than the owner may
 *   read the file (POSIX); `unauthenticated` if the passphrase is missing or wrong; `invalid` if the file
 *   holds no key; `unavailable` if it cannot be read.
 */
export async function loadKeyFile(path: string, options: { passphrase?: string } = {}): Promise<KeyPair> {
  const { text, mode } = await read(path);
  if (process.platform !== "win32" && (mode & READABLE_BY_OTHERS) !== 0 && !isSealed(text)) {
    throw new FormationError("forbidden", `Others than its owner may use the key file ${path}.`, {
      remedy: `Run: chmod 600 ${path}; if others had access to this machine, make a new key.`,
      field: "path",
    });
  }
  return await parseKeyFile(text, options.passphrase);
}

async function write(path: string, text: string): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(text);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function read(path: string): Promise<{ text: string; mode: number }> {
  let file: FileHandle;
  try {
    // O_NONBLOCK: opening a named pipe without a writer must not block.
    file = await open(path, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw unusable(path, "read", error);
    throw new FormationError("not_found", `There is no key file at ${path}.`, {
      remedy: "Make one with formation-mcp keygen, or name the file that you have.",
      field: "path",
    });
  }
  try {
    const { mode, size } = await file.stat().then((stat) => {
      if (!stat.isFile()) throw new Error("it is no regular file");
      return stat;
    });
    if (size > MAX_BYTES) throw new Error("it is too long for a key");
    return { text: await file.readFile("utf8"), mode };
  } catch (error) {
    throw unusable(path, "read", error);
  } finally {
    await file.close();
  }
}

function unusable(path: string, what: string, error: unknown): FormationError {
  const { message } = error as Error;
  return new FormationError("unavailable", `The key file ${path} cannot be ${what}: ${message}.`, {
    cause: error,
    remedy: "Check the path, and that it belongs to the user who runs this.",
    field: "path",
  });
}
