// What the master key is used for, and how secrets are generated, hashed and compared. Each use of the master
// key has its own derived key (HKDF, RFC 5869), so output for one use is meaningless for another.

import { createCipheriv, createDecipheriv, createHmac, hash, hkdfSync, timingSafeEqual } from "node:crypto";
import { FormationError } from "@formation-mcp/contract";

/** A text sealed with AES-256-GCM. All parts are base64url. */
export interface Sealed {
  iv: string;
  tag: string;
  data: string;
}

export interface Secrets {
  random(bytes: number): Uint8Array;
  /** Encrypts and authenticates a text. @param context what the text is; `open` needs the same context. */
  seal(text: string, context: string): Sealed;
  /**
   * @throws FormationError `unavailable` if the master key or the context is another one, or the data was
   *   changed.
   */
  open(sealed: Sealed, context: string): string;
  /**
   * HMAC-SHA-256 over a list of texts: 32 bytes in base64url that only the holder of the master key can make.
   */
  mac(...parts: string[]): string;
}

/** @throws FormationError `invalid` if the master key is not 32 bytes. */
export function createSecrets(masterKey: Uint8Array, random: (bytes: number) => Uint8Array): Secrets {
  if (!(masterKey instanceof Uint8Array) || masterKey.length !== 32) {
    throw new FormationError("invalid", "The master key is not 32 bytes.", { field: "masterKey" });
  }
  const deriveKey = (use: string) =>
    Buffer.from(hkdfSync("sha256", masterKey, new Uint8Array(), `formation-mcp ${use}`, 32));
  const sealKey = deriveKey("seal v1");
  const macKey = deriveKey("mac v1");
  return {
    random,
    seal: (text, context) => {
      const iv = random(12);
      const cipher = createCipheriv("aes-256-gcm", sealKey, iv).setAAD(Buffer.from(context));
      const data = Buffer.concat([cipher.update(text, "utf8"), cipher.final()]);
      return { iv: encode(iv), tag: encode(cipher.getAuthTag()), data: encode(data) };
    },
    open: ({ iv, tag, data }, context) => {
      try {
        const decipher = createDecipheriv("aes-256-gcm", sealKey, decode(iv), { authTagLength: 16 })
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
    // Each part is preceded by its length, so that no two lists of parts give the same bytes.
    mac: (...parts) => {
      const hmac = createHmac("sha256", macKey);
      for (const part of parts) hmac.update(`${Buffer.byteLength(part)}:`).update(part);
      return hmac.digest("base64url");
    },
  };
}

/** SHA-256 of a text, in base64url. */
export function hashOf(text: string): string {
  return hash("sha256", text, "base64url");
}

/** Whether two texts are equal. The time taken does not depend on where they differ. */
export function sameSecret(one: string, other: string): boolean {
  const [a, b] = [Buffer.from(one), Buffer.from(other)];
  return a.length === b.length && timingSafeEqual(a, b);
}

/** The one error for every token that is not accepted, whatever the reason. */
export function invalidToken(): FormationError {
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
