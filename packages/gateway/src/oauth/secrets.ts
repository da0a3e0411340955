// What is derived from the server's one secret: keys for cookies, tokens of forms, codes. Every use has its own key, so
// that nothing made for one is worth anything for another; all processes of a server derive the same.

import { createHash, createHmac, hkdfSync, timingSafeEqual } from "node:crypto";

/** Crockford's base 32: no letter that can be mistaken for a digit. */
const ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CODE_LENGTH = 8;

export interface Secrets {
  /** Sign cookies (keygrip). */
  readonly cookieKeys: readonly string[];
  /** The token of the forms of one interaction. */
  formToken(uid: string): string;
  isFormToken(uid: string, given: unknown): boolean;
  /** What a message must name to be signed for one interaction. */
  binding(uid: string): string;
  /** The code of one interaction: eight letters or digits, 40 bits, another one with another salt. */
  code(uid: string, salt: string): string;
  /** Under what name a code is kept: the code itself stands nowhere. */
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

/** Reads a code as people type it: case, spaces and dashes do not matter, nor O for 0 and I or L for 1. Null if it is none. */
export function readCode(text: string): string | null {
  if (text.length > 40) return null;
  const code = text.toUpperCase().replace(/[\s-]/g, "").replaceAll("O", "0").replace(/[IL]/g, "1");
  return code.length === CODE_LENGTH && [...code].every((letter) => ALPHABET.includes(letter)) ? code : null;
}

/** `ABCD-EFGH`. */
export function showCode(code: string): string {
  return `${code.slice(0, 4)}-${code.slice(4)}`;
}

function sameText(one: string, other: string): boolean {
  const digest = (text: string) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(one), digest(other));
}
