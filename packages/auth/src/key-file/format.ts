// The text of a key file: JSON with a version, and the private key in clear or sealed. This folder knows the
// format of key files; reading and writing the file itself is up to `../key-file.ts`.

import { FormationError } from "@formation-mcp/contract";
import * as z from "zod";
import { keyId } from "../keys/identity.ts";
import { importKey } from "../keys/import.ts";
import { KEY_KINDS, type KeyPair, keyFromPrivate } from "../keys/pair.ts";
import { openSealedKey, sealedShape, sealKey } from "./seal.ts";

const VERSION = 1;

const common = { formation_key: z.literal(VERSION), kind: z.enum(KEY_KINDS), id: z.string().max(128) };
const fileShape = z.union([
  z.strictObject({ ...common, sealed: sealedShape }),
  z.strictObject({ ...common, private_key: z.string().regex(/^[0-9a-f]{64}$/) }),
]);

/** The public part of a key file. */
type Header = { formation_key: number; kind: string; id: string };

/** How a key is sealed. Without a passphrase it is not. */
export interface SealOptions {
  passphrase?: string | undefined;
  scryptN?: number | undefined;
}

/**
 * The text of a key's file.
 * @throws FormationError `invalid` for an empty passphrase or a cost out of range.
 */
export async function formatKeyFile(key: KeyPair, options: SealOptions): Promise<string> {
  const { passphrase, scryptN } = options;
  const header: Header = { formation_key: VERSION, kind: key.kind, id: keyId(key) };
  const secret =
    passphrase === undefined
      ? { private_key: key.revealPrivate() }
      : { sealed: await sealKey(key.revealPrivate(), aadOf(header), { passphrase, scryptN }) };
  return `${JSON.stringify({ ...header, ...secret }, null, 2)}\n`;
}

/** Whether a key file cannot be used without its passphrase. */
export function isSealed(text: string): boolean {
  const file = fileShape.safeParse(json(text));
  return file.success && "sealed" in file.data;
}

/** The key of a file's text. @throws FormationError as {@link loadKeyFile} does. */
export async function parseKeyFile(text: string, passphrase: string | undefined): Promise<KeyPair> {
  const value = json(text);
  if (typeof value !== "object" || value === null || !("formation_key" in value)) return importKey(text);
  const file = fileShape.safeParse(value);
  if (!file.success) {
    throw new FormationError("invalid", "The key file is damaged, or was written by a newer program.", {
      remedy: "Update this program, or take the key from a backup.",
    });
  }
  const { kind, id } = file.data;
  const hex =
    "sealed" in file.data
      ? await openSealedKey(file.data.sealed, aadOf(file.data), passphrase)
      : file.data.private_key;
  const key = keyFromPrivate(kind, hex);
  if (keyId(key) === id) return key;
  throw new FormationError("invalid", "The key file is damaged: its id is not its key's.", {
    remedy: "Take the key from a backup.",
  });
}

/** The public part is authenticated by the seal: with another kind or id, the file does not open. */
function aadOf({ formation_key, kind, id }: Header): Buffer {
  return Buffer.from(JSON.stringify([formation_key, kind, id]));
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
