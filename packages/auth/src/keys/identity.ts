// The id of a key, and how a key signs a text. Clients that sign and servers that verify share this code.

import { FormationError } from "@formation-mcp/contract";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { concatBytes, utf8ToBytes } from "@noble/hashes/utils.js";
import { fromBase64Url, fromHex, toBase64Url, toHex } from "./bytes.ts";
import { addressOf, recoverAddress } from "./ethereum.ts";
import { jwkThumbprint, type PublicJwk } from "./jwk.ts";
import { type KeyPair, type PublicKey, verifyEd25519 } from "./pair.ts";

/** A signature over a challenge's message, as servers accept it. */
export interface SignedText {
  message: string;
  /** secp256k1: 65 bytes in hex with 0x (EIP-191). Ed25519: 64 bytes in base64url. */
  signature: string;
  /** Present for Ed25519, because the key cannot be recovered from the id or the signature. */
  publicKey?: PublicJwk;
}

/**
 * A key's id: the EIP-55 address of a secp256k1 key, `key:<RFC 7638 thumbprint>` of an Ed25519 key. It is
 * always computed from the key's own bytes; the object's `address` and `thumbprint` are ignored.
 * @throws FormationError `invalid` if it is no such public key, or no point of the curve.
 */
export function keyId(key: PublicKey | PublicJwk): string {
  const jwk = isPublicKey(key) ? jwkOf(key) : key;
  const thumbprint = jwkThumbprint(jwk);
  if (jwk.kty === "OKP") return `key:${thumbprint}`;
  const point = concatBytes(Uint8Array.of(4), fromBase64Url(jwk.x, "x"), fromBase64Url(jwk.y, "y"));
  return addressOf(pointOf(point).toBytes(true));
}

function isPublicKey(key: PublicKey | PublicJwk): key is PublicKey {
  return typeof key === "object" && key !== null && !("kty" in key);
}

function jwkOf({ kind, public_key }: PublicKey): PublicJwk {
  if (kind === "ed25519") {
    return { kty: "OKP", crv: "Ed25519", x: toBase64Url(fromHex(public_key, 32, "public key")) };
  }
  const point = pointOf(fromHex(public_key, 33, "public key")).toBytes(false);
  return {
    kty: "EC",
    crv: "secp256k1",
    x: toBase64Url(point.slice(1, 33)),
    y: toBase64Url(point.slice(33)),
  };
}

function pointOf(bytes: Uint8Array) {
  try {
    return secp256k1.Point.fromBytes(bytes);
  } catch (cause) {
    throw new FormationError("invalid", "The coordinates are no point of secp256k1.", {
      cause,
      field: "public key",
    });
  }
}

/** Signs the UTF-8 of a text: EIP-191 for secp256k1, plain RFC 8032 for Ed25519. */
export function signMessage(key: KeyPair, message: string): SignedText {
  const signature = key.sign(utf8ToBytes(message));
  return key.kind === "secp256k1"
    ? { message, signature: `0x${toHex(signature)}` }
    : { message, signature: toBase64Url(signature), publicKey: key.publicJwk() };
}

/**
 * Whether a key signed a text.
 * @param jwk the public key. Needed for Ed25519.
 * @param signature 65 bytes in hex (secp256k1); 64 bytes in hex or base64url (Ed25519).
 * @throws FormationError `invalid` for input of the wrong shape.
 */
export function verifyMessage(
  id: string,
  jwk: PublicJwk | null,
  message: string,
  signature: string,
): boolean {
  const bytes = utf8ToBytes(message);
  if (id.startsWith("0x")) {
    const raw = fromHex(signature, 65, "signature");
    try {
      return recoverAddress(bytes, raw) === id;
    } catch {
      return false;
    }
  }
  if (jwk?.kty !== "OKP" || keyId(jwk) !== id) return false;
  const raw =
    signature.length === 86 ? fromBase64Url(signature, "signature") : fromHex(signature, 64, "signature");
  return verifyEd25519(fromBase64Url(jwk.x, "x"), bytes, raw);
}
