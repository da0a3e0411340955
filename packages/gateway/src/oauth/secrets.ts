// What is derived from the server's one secret (HKDF): keys for cookies, form tokens, login codes. Each use
// has its own key, so that a value made for one is worthless for another. All processes of a server derive
// the same values.

import { createHash, createHmac, hkdfSync, timingSafeEqual } from "node:crypto";

/** Crockford's base 32: no letter that looks like a digit. */
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_LENGTH = 8;

export interface Secrets {
  /** Sign cookies (keygrip). */
  readonly cookieKeys: readonly string[];
  /** The CSRF token of the forms of one interaction. */
  formToken(uid: string): string;
  isFormToken(uid: string, given: unknown): boolean;
  /** What a signed message must contain to count for one interaction. */
  binding(uid: string): string;
  /** The login code of one interaction and one salt: eight letters or digits, 40 bits. */
  code(uid: string, salt: string): string;
  /** The id of the document of a code: the code itself is stored nowhere. */
  codeId(code: string): string;
}

export function deriveSecrets(secret: Uint8Array): Secrets {
  const key = (use: string) => Buffer.from(hkdfSync("sha256", secret, "formation-oauth", use, 32));
  const forms = key("forms");
  const bindings = key("bindings");
  const codes = key("codes");
  const mac = (by: Buffer, text: string) => createHmac("sha256", by).update(text).digest();
  const formToken = (uid: string) => mac(forms, uid).toString("base64url");
  return {
    cookieKeys: [key("cookies").toString("base64url")],
    formToken,
    isFormToken: (uid, given) => typeof given === "string" && sameText(given, formToken(uid)),
    binding: (uid) => mac(bindings, uid).subarray(0, 16).toString("base64url"),
    code(uid, salt) {
      const bytes = mac(codes, `${uid}\n${salt}`).subarray(0, CODE_LENGTH);
      return [...bytes].map((byte) => ALPHABET[byte & 31]).join("");
    },
    codeId: (code) => mac(codes, `id\n${code}`).toString("base64url"),
  };
}

/**
 * Normalizes a typed code: case, spaces and dashes do not matter; O counts as 0, I and L as 1. Null if it is
 * not a code.
 */
export function readCode(text: string): string | null {
  if (text.length > 40) return null;
  const code = text.toUpperCase().replace(/[\s-]/g, "").replaceAll("O", "0").replace(/[IL]/g, "1");
  return code.length === CODE_LENGTH && [...code].every((letter) => ALPHABET.includes(letter)) ? code : null;
}

/** A code as people read it: `ABCD-EFGH`. */
export function showCode(code: string): string {
  return `${code.slice(0, 4)}-${code.slice(4)}`;
}

function sameText(one: string, other: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}
