// Public keys as JSON (RFC 7517, RFC 8037, RFC 8812) and the name of a key that everybody computes alike (RFC 7638).

import { FormationError } from "@formation-mcp/contract";
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { toBase64Url } from "./bytes.ts";

/** A public key as JSON; coordinates are 32 bytes in base64url. */
export type PublicJwk =
  | { kty: "OKP"; crv: "Ed25519"; x: string }
  | { kty: "EC"; crv: "secp256k1"; x: string; y: string };

const COORDINATE = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/; // 32 bytes: the last character's two low bits are zero

/**
 * The SHA-256 thumbprint of a key in base64url (RFC 7638): over the required members alone, so other members of the
 * object change nothing.
 * @throws FormationError `invalid` if it is no public Ed25519 or secp256k1 key.
 */
export function jwkThumbprint(jwk: PublicJwk): string {
  const fields: Record<string, unknown> = typeof jwk === "object" && jwk !== null ? { ...jwk } : {};
  const { kty, crv, x, y } = fields;
  const edwards = kty === "OKP" && crv === "Ed25519" && isCoordinate(x);
  const koblitz = kty === "EC" && crv === "secp256k1" && isCoordinate(x) && isCoordinate(y);
  if (!edwards && !koblitz) {
    throw new FormationError("invalid", "This is no public Ed25519 or secp256k1 key in JSON.", {
      remedy: "Give kty, crv and x (and y for secp256k1) as RFC 8037 or RFC 8812 have them.",
      field: "jwk",
    });
  }
  // The members' order is the lexicographic one that RFC 7638 §3.3 asks for.
  const canonical = edwards ? { crv, kty, x } : { crv, kty, x, y };
  return toBase64Url(sha256(utf8ToBytes(JSON.stringify(canonical))));
}

function isCoordinate(value: unknown): value is string {
  return typeof value === "string" && COORDINATE.test(value);
}
