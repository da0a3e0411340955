// How a private key is sealed with a passphrase: scrypt (RFC 7914) makes a key of the passphrase, and
// AES-256-GCM encrypts with it. A seal says its own cost; the cost is checked before any work is done,
// because the file may come from an attacker.

import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { FormationError } from "@formation-mcp/contract";
import * as z from "zod";

/** scrypt's parameters: N is the cost in CPU time and memory (128 · N · r bytes), r the block size. */
interface ScryptCost {
  N: number;
  r: number;
  p: number;
}

/** 128 MiB and some tenths of a second for each guess: OWASP's first choice for scrypt. */
const DEFAULT_N = 2 ** 17;
const MIN_N = 2 ** 14;
const MAX_COST: ScryptCost = { N: 2 ** 18, r: 8, p: 2 };

const base64url = z.string().regex(/^[A-Za-z0-9_-]{1,128}$/);
const scryptNShape = z
  .number()
  .int()
  .min(MIN_N)
  .max(MAX_COST.N)
  .refine((n) => Number.isInteger(Math.log2(n)));

/** A sealed key as its file holds it. */
export const sealedShape = z.strictObject({
  kdf: z.literal("scrypt"),
  n: scryptNShape,
  r: z.number().int().min(1).max(MAX_COST.r),
  p: z.number().int().min(1).max(MAX_COST.p),
  salt: base64url,
  cipher: z.literal("aes-256-gcm"),
  iv: base64url,
  tag: base64url,
  data: base64url,
});

export type SealedKey = z.infer<typeof sealedShape>;

/**
 * Seals a private key.
 * @param hex the private key.
 * @param aad public data that is authenticated along with it.
 * @param options.scryptN a power of two from 2^14 to 2^18. Default: 2^17.
 * @throws FormationError `invalid` for an empty passphrase or another cost.
 */
export async function sealKey(
  hex: string,
  aad: Buffer,
  options: { passphrase: string; scryptN?: number | undefined },
): Promise<SealedKey> {
  const { passphrase, scryptN: N = DEFAULT_N } = options;
  if (passphrase === "") {
    throw new FormationError("invalid", "The passphrase is empty.", {
      remedy: "Give one of some words, or none at all to protect the file by its mode alone.",
      field: "passphrase",
    });
  }
  if (!scryptNShape.safeParse(N).success) {
    throw new FormationError("invalid", "The cost of scrypt is out of range.", {
      remedy: `Give a power of two from ${MIN_N} to ${MAX_COST.N}.`,
      field: "scryptN",
    });
  }
  const [salt, iv] = [randomBytes(16), randomBytes(12)];
  const cost: ScryptCost = { N, r: 8, p: 1 };
  const secret = await deriveKey(passphrase, salt, cost);
  const cipher = createCipheriv("aes-256-gcm", secret, iv).setAAD(aad);
  const data = Buffer.concat([cipher.update(Buffer.from(hex, "hex")), cipher.final()]);
  return {
    kdf: "scrypt",
    n: cost.N,
    r: cost.r,
    p: cost.p,
    salt: salt.toString("base64url"),
    cipher: "aes-256-gcm",
    iv: iv.toString("base64url"),
    tag: cipher.getAuthTag().toString("base64url"),
    data: data.toString("base64url"),
  };
}

/**
 * Opens a sealed key.
 * @returns the private key in hexadecimal.
 * @throws FormationError `unauthenticated` for a missing or wrong passphrase, or changed data.
 */
export async function openSealedKey(
  sealed: SealedKey,
  aad: Buffer,
  passphrase: string | undefined,
): Promise<string> {
  if (passphrase === undefined || passphrase === "") {
    throw new FormationError("unauthenticated", "The key file is sealed with a passphrase.", {
      remedy: "Give its passphrase.",
      field: "passphrase",
    });
  }
  const { n, r, p, salt, iv, tag, data } = sealed;
  const secret = await deriveKey(passphrase, Buffer.from(salt, "base64url"), { N: n, r, p });
  try {
    const decipher = createDecipheriv("aes-256-gcm", secret, Buffer.from(iv, "base64url"), {
      authTagLength: 16,
    })
      .setAAD(aad)
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

function deriveKey(passphrase: string, salt: Buffer, { N, r, p }: ScryptCost): Promise<Buffer> {
  // Typed on another machine, the same word may be composed or decomposed Unicode.
  const word = passphrase.normalize("NFC");
  return new Promise((resolve, reject) => {
    scrypt(word, salt, 32, { N, r, p, maxmem: 130 * N * r * p }, (error, key) =>
      error ? reject(error) : resolve(key),
    );
  });
}
