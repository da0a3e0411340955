// Public keys as JSON (RFC 7517, RFC 8037, RFC 8812), and their thumbprints (RFC 7638).

import { FormationError } from "@formation-mcp/contract";
import { sha256 } from "@noble/hashes/sha2.js";
import { utf8ToBytes } from "@noble/hashes/utils.js";
import { toBase64Url } from "./bytes.ts";

/** A public key as JSON; coordinates are 32 bytes in base64url. */
export type PublicJwk =
  | { kty: "OKP"; crv: "Ed25519"; x: string }
  | { kty: "EC"; crv: "secp256k1"; x: string; y: string };

/** 32 bytes in base64url: the two low bits of the last character are zero. */
const COORDINATE = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/;

/**
 * The SHA-256 thumbprint of a key in base64url (RFC 7638). Only the required members count.
 * @throws FormationError `invalid` if it is no public Ed25519 or secp256k1 key.
 */
export function jwkThumbprint(jwk: PublicJwk): string {
  const fields: Record<string, unknown> = typeof jwk === "object" && jwk !== null ? { ...jwk } : {};
  const { kty, crv, x, y } = fields;
  const isEd25519 = kty === "OKP" && crv === "Ed25519" && isCoordinate(x);
  const isSecp256k1 = kty === "EC" && crv === "secp256k1" && isCoordinate(x) && isCoordinate(y);
  if (!isEd25519 && !isSecp256k1) {
    throw new FormationError("invalid", "This is no public Ed25519 or secp256k1 key in JSON.", {
      remedy: "Give kty, crv and x (and y for secp256k1) as RFC 8037 or RFC 8812 have them.",
      field: "jwk",
    });
  }
  // The members are in lexicographic order (RFC 7638 §3.3).
  const canonical = isEd25519 ? { crv, kty, x } : { crv, kty, x, y };
  return toBase64Url(sha256(utf8ToBytes(JSON.stringify(canonical))));
}

function isCoordinate(value: unknown): value is string {
  return typeof value === "string" && COORDINATE.test(value);
}
