// What the master key is used for, and how secrets are made, hashed and compared. Each use has a key of its own (HKDF,
// RFC 5869), so that nothing made for one of them means anything to another.

import { createCipheriv, createDecipheriv, createHmac, hash, hkdfSync, timingSafeEqual } from "node:crypto";
import { FormationError } from "@formation-mcp/contract";

/** A text sealed with AES-256-GCM; all parts in base64url. */
export interface Sealed {
  iv: string;
  tag: string;
  data: string;
}

export interface Secrets {
  random(bytes: number): Uint8Array;
  /** @param context what the text is; opening needs the same. */
  seal(text: string, context: string): Sealed;
  /** @throws FormationError `unavailable` if it was sealed with another master key, for another context, or was changed. */
  open(sealed: Sealed, context: string): string;
  /** 32 bytes in base64url that nobody can make without the master key. */
  mac(...parts: string[]): string;
}

/** @throws FormationError `invalid` if the master key is not 32 bytes. */
export function secretsOf(masterKey: Uint8Array, random: (bytes: number) => Uint8Array): Secrets {
  if (!(masterKey instanceof Uint8Array) || masterKey.length !== 32) {
    throw new FormationError("invalid", "The master key is not 32 bytes.", { field: "masterKey" });
  }
  const keyFor = (use: string) =>
    Buffer.from(hkdfSync("sha256", masterKey, new Uint8Array(), `formation-mcp ${use}`, 32));
  const sealing = keyFor("seal v1");
  const macing = keyFor("mac v1");
  return {
    random,
    seal: (text, context) => {
      const iv = random(12);
      const cipher = createCipheriv("aes-256-gcm", sealing, iv).setAAD(Buffer.from(context));
      const data = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return { iv: encode(iv), tag: encode(cipher.getAuthTag()), data: encode(data) };
    },
    open: ({ iv, tag, data }, context) => {
      try {
        const decipher = createDecipheriv("aes-256-gcm", sealing, decode(iv), { authTagLength: 16 })
          .setAAD(Buffer.from(context))
          .setAuthTag(decode(tag));
        return Buffer.concat([decipher.update(decode(data)), decipher.final()]).toString("utf8");
      } catch (cause) {
        throw new FormationError("unavailable", "What the database holds sealed does not open.", {
          cause,
          remedy: "Start the server with the master key that it was first started with.",
        });
      }
    },
    // Lengths stand before the parts, so that no two lists of parts are the same bytes.
    mac: (...parts) => {
      const hmac = createHmac("sha256", macing);
      for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part);
      return hmac.digest("base64url");
    },
  };
}

/** SHA-256 of a text, in base64url. */
export function hashOf(text: string): string {
  return hash("sha256", text, "base64url");
}

/** Whether two texts are the same, in a time that says nothing about where they differ. */
export function sameSecret(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** What is said of every token that is not taken, whatever is wrong with it. */
export function refused(): FormationError {
  return new FormationError("unauthenticated", "The token is not valid.", {
    remedy: "Sign in again, or show a token that has neither expired nor been revoked.",
  });
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

function decode(text: string): Buffer {
  return Buffer.from(text, "base64url");
}
