// What stands in a key file: JSON with a version. A sealed key says how it was sealed; those numbers are checked before
// they cost anything, for the file may be a stranger's.

import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { FormationError } from "@formation-mcp/contract";
import * as z from "zod";
import { keyId } from "../keys/identity.ts";
import { importKey } from "../keys/import.ts";
import { KEY_KINDS, type KeyPair, keyFromPrivate } from "../keys/pair.ts";

const VERSION = 1;
/** 128 MiB and some tenths of a second for each guess: OWASP's first choice for scrypt. */
const COST = { N: 2 ** 17, r: 8, p: 1 };
const MAX_COST = { N: 2 ** 18, r: 8, p: 2 };

const base64url = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const sealedShape = z.strictObject({
  kdf: z.literal("scrypt"),
  n: z
    .number()
    .int()
    .min(2 ** 14)
    .max(MAX_COST.N)
    .refine((n) => Number.isInteger(Math.log2(n))),
  r: z.number().int().min(1).max(MAX_COST.r),
  p: z.number().int().min(1).max(MAX_COST.p),
  salt: base64url,
  cipher: z.literal("aes-256-gcm"),
  iv: base64url,
  tag: base64url,
  data: base64url,
});
const common = { formation_key: z.literal(VERSION), kind: z.enum(KEY_KINDS), id: z.string().max(128) };
const fileShape = z.union([
  z.strictObject({ ...common, sealed: sealedShape }),
  z.strictObject({ ...common, private_key: z.string().regex(/^[0-9a-f]{64}$/) }),
]);
type Header = { formation_key: number; kind: string; id: string };

/** A key as its file holds it. */
export async function fileText(key: KeyPair, passphrase: string | undefined): Promise<string> {
  const header: Header = { formation_key: VERSION, kind: key.kind, id: keyId(key) };
  if (passphrase === undefined) {
    return `${JSON.stringify({ ...header, private_key: key.revealPrivate() }, null, 2)}\n`;
  }
  if (passphrase === "") {
    throw new FormationError("invalid", "The passphrase is empty.", {
      remedy: "Give one of some words, or none at all to protect the file by its mode alone.",
      field: "passphrase",
    });
  }
  const [salt, iv] = [randomBytes(16), randomBytes(12)];
  const secret = await stretch(passphrase, salt, COST);
  const cipher = createCipheriv("aes-256-gcm", secret, iv).setAAD(aadOf(header));
  const data = Buffer.concat([cipher.update(Buffer.from(key.revealPrivate(), "hex")), cipher.final()]);
  const sealed = {
    kdf: "scrypt",
    n: COST.N,
    r: COST.r,
    p: COST.p,
    salt: salt.toString("base64url"),
    cipher: "aes-256-gcm",
    iv: iv.toString("base64url"),
    tag: cipher.getAuthTag().toString("base64url"),
    data: data.toString("base64url"),
  };
  return `${JSON.stringify({ ...header, sealed }, null, 2)}\n`;
}

/** Whether a file's text is of no use without its passphrase. */
export function needsPassphrase(text: string): boolean {
  const file = fileShape.safeParse(json(text));
  return file.success && "sealed" in file.data;
}

/** The key of a file's text. @throws FormationError as {@link loadKeyFile} says. */
export async function keyOf(text: string, passphrase: string | undefined): Promise<KeyPair> {
  const value = json(text);
  if (typeof value !== "object" || value === null || !("formation_key" in value)) return importKey(text);
  const file = fileShape.safeParse(value);
  if (!file.success) {
    throw new FormationError("invalid", "The key file is damaged, or was written by a newer program.", {
      remedy: "Update this program, or take the key from a backup.",
    });
  }
  const { kind, id } = file.data;
  const hex = "sealed" in file.data ? await opened(file.data, passphrase) : file.data.private_key;
  const key = keyFromPrivate(kind, hex);
  if (keyId(key) === id) return key;
  throw new FormationError("invalid", "The key file is damaged: its id is not its key's.", {
    remedy: "Take the key from a backup.",
  });
}

async function opened(
  file: Header & { sealed: z.infer<typeof sealedShape> },
  passphrase: string | undefined,
): Promise<string> {
  if (passphrase === undefined || passphrase === "") {
    throw new FormationError("unauthenticated", "The key file is sealed with a passphrase.", {
      remedy: "Give its passphrase.",
      field: "passphrase",
    });
  }
  const { n, r, p, salt, iv, tag, data } = file.sealed;
  const secret = await stretch(passphrase, Buffer.from(salt, "base64url"), { N: n, r, p });
  try {
    const decipher = createDecipheriv("aes-256-gcm", secret, Buffer.from(iv, "base64url"), {
      authTagLength: 16,
    })
      .setAAD(aadOf(file))
      .setAuthTag(Buffer.from(tag, "base64url"));
    const bytes = Buffer.concat([decipher.update(Buffer.from(data, "base64url")), decipher.final()]);
    return bytes.toString("hex");
  } catch (cause) {
    throw new FormationError("unauthenticated", "The passphrase is wrong, or the key file is damaged.", {
      cause,
      remedy: "Give the passphrase that the key was saved with.",
      field: "passphrase",
    });
  }
}

/** What is not secret is sealed along: another kind or id in the file and it does not open. */
function aadOf({ formation_key, kind, id }: Header): Buffer {
  return Buffer.from(JSON.stringify([formation_key, kind, id]));
}

function stretch(passphrase: string, salt: Buffer, { N, r, p }: typeof COST): Promise<Buffer> {
  // The same word typed on two machines may come composed or decomposed.
  const word = passphrase.normalize("NFC");
  return new Promise((resolve, reject) => {
    scrypt(word, salt, 32, { N, r, p, maxmem: 130 * N * r * p }, (error, key) =>
      error ? reject(error) : resolve(key),
    );
  });
}

function json(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
