// The key file of this user, and the passphrase that opens it: from the environment, or typed without an
// echo. Never from the command line, which every user of a machine can read.

import { existsSync } from "node:fs";
import type { RemoteConfiguration } from "@formation-mcp/assembly/settings";
import { loadKeyFile, saveKeyFile } from "@formation-mcp/auth/key-file";
import { generateKey, type KeyKind, keyId } from "@formation-mcp/auth/keys";
import { keySigner, type Signer } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";
import { askSecret } from "./terminal.ts";

type Settings = Pick<RemoteConfiguration, "keyFile" | "keyFileNamed" | "passphrase">;

/** Whether a key file exists or the settings name one. */
export function hasKey({ keyFile, keyFileNamed }: Settings): boolean {
  return keyFileNamed || existsSync(keyFile);
}

/**
 * The key of the file, ready to sign.
 * @param ask whether to ask for the passphrase on the terminal.
 * @throws FormationError what `loadKeyFile` throws
 */
export async function fileSigner({ keyFile, passphrase }: Settings, ask: boolean): Promise<Signer> {
  try {
    return keySigner(await loadKeyFile(keyFile, passphrase === null ? {} : { passphrase }));
  } catch (error) {
    if (!ask || passphrase !== null || !isSealed(error)) throw error;
    const typed = await askSecret(`Passphrase of ${keyFile}: `);
    return keySigner(await loadKeyFile(keyFile, { passphrase: typed }));
  }
}

/** Whether the error means that a passphrase is missing. */
export function isSealed(error: unknown): boolean {
  const { code, details } = FormationError.from(error);
  return code === "unauthenticated" && details.field === "passphrase";
}

/**
 * Makes a key and its file; returns its id.
 * @throws FormationError `conflict` if the file is there
 */
export async function makeKey(
  { keyFile, passphrase }: Settings,
  kind: KeyKind,
  seal: boolean,
): Promise<string> {
  const key = generateKey(kind);
  const word = seal ? (passphrase ?? (await newPassphrase())) : undefined;
  await saveKeyFile(keyFile, key, word === undefined ? {} : { passphrase: word });
  return keyId(key);
}

async function newPassphrase(): Promise<string> {
  const word = await askSecret("Passphrase: ");
  if (word === (await askSecret("The same again: "))) return word;
  throw new FormationError("invalid", "The two passphrases differ.", { remedy: "Try again." });
}
