// Converts text to bytes and back. This folder knows keys and signatures, for Node and browsers. An error
// names the field that is wrong and never repeats its text, because the text may be a private key.

import { FormationError } from "@formation-mcp/contract";
import { bytesToHex, hexToBytes, isBytes } from "@noble/hashes/utils.js";

export { bytesToHex as toHex };

/**
 * Reads exactly `length` bytes of hexadecimal digits, with or without `0x`.
 * @throws FormationError `invalid`, without the text.
 */
export function fromHex(text: string, length: number, field: string): Uint8Array {
  const digits = typeof text === "string" && text.startsWith("0x") ? text.slice(2) : text;
  if (typeof digits === "string" && digits.length === length * 2 && /^[0-9a-fA-F]*$/.test(digits)) {
    return hexToBytes(digits);
  }
  throw new FormationError("invalid", `${field} is not ${length} bytes in hexadecimal.`, {
    remedy: `Give ${length * 2} hexadecimal digits, with or without 0x.`,
    field,
  });
}

/**
 * Checks that a value is a byte array, of the given length if one is given, and returns it.
 * @throws FormationError `invalid` for anything else.
 */
export function asBytes(value: Uint8Array, field: string, length?: number): Uint8Array {
  if (isBytes(value) && (length === undefined || value.length === length)) return value;
  throw new FormationError("invalid", `${field} is not ${length === undefined ? "" : `${length} `}bytes.`, {
    remedy: `Give a Uint8Array${length === undefined ? "" : ` of length ${length}`}.`,
    field,
  });
}

/** Bytes as base64url without padding (RFC 4648 §5). */
export function toBase64Url(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes))
    .replaceAll("+", "-")
    .replaceAll("/", "_")
    .replaceAll("=", "");
}

/**
 * Reads base64url without padding (RFC 4648 §5). Only the canonical spelling is accepted.
 * @throws FormationError `invalid`, without the text.
 */
export function fromBase64Url(text: string, field: string): Uint8Array {
  if (typeof text === "string" && /^[A-Za-z0-9_-]*$/.test(text) && text.length % 4 !== 1) {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) =>
      character.charCodeAt(0),
    );
    if (toBase64Url(bytes) === text) return bytes;
  }
  throw new FormationError("invalid", `${field} is not base64url.`, {
    remedy: "Use the alphabet of RFC 4648 §5, without padding.",
    field,
  });
}
