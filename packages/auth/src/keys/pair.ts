// Key pairs that sign. The private half is in a private field: printing, inspecting, spreading, cloning and
// JSON never show it. Only `revealPrivate()` does.

import { FormationError } from "@formation-mcp/contract";
import { ed25519 } from "@noble/curves/ed25519.js";
import { secp256k1 } from "@noble/curves/secp256k1.js";
import { asBytes, fromHex, toBase64Url, toHex } from "./bytes.ts";
import { addressOf, signPersonal } from "./ethereum.ts";
import { jwkThumbprint, type PublicJwk } from "./jwk.ts";

export const KEY_KINDS = ["ed25519", "secp256k1"] as const;
export type KeyKind = (typeof KEY_KINDS)[number];

/** A source of randomness: returns the given number of bytes. */
export type RandomBytes = (bytes: number) => Uint8Array;

/** The public half of a key pair. A key pair becomes this as JSON. */
export interface PublicKey {
  readonly kind: KeyKind;
  /** In hexadecimal: 32 bytes for Ed25519 (RFC 8032), 33 for secp256k1 (SEC 1, compressed). */
  readonly public_key: string;
  /** The Ethereum address with its checksum; null for Ed25519. */
  readonly address: string | null;
  /** {@link jwkThumbprint} of the public key. */
  readonly thumbprint: string;
}

export interface KeyPair extends PublicKey {
  /**
   * Signs bytes: 64 bytes of Ed25519 (RFC 8032 §5.1.6), or 65 of personal_sign (EIP-191) for secp256k1.
   * @throws FormationError `invalid` if the message is no byte array
   */
  sign(message: Uint8Array): Uint8Array;
  publicJwk(): PublicJwk;
  /** The private key as 64 hexadecimal digits. Use it only to write the key to its file. */
  revealPrivate(): string;
  toJSON(): PublicKey;
}

/**
 * Makes a new key pair.
 * @param random the source of its 32 bytes. Default: the platform's cryptographic source.
 * @throws FormationError `invalid` if the source gives no usable bytes in eight tries.
 */
export function generateKey(kind: KeyKind, random: RandomBytes = platformRandom): KeyPair {
  const { isPrivate } = curveOf(kind);
  for (let tries = 0; tries < 8; tries++) {
    const candidate = asBytes(random(32), "random", 32);
    // One candidate in 2^128 is no valid secp256k1 key. A source that fails eight times is broken.
    if (isPrivate(candidate)) return new Pair(kind, Uint8Array.from(candidate));
  }
  throw new FormationError("invalid", `The source of randomness gives no ${kind} key.`, { field: "random" });
}

/**
 * The key pair of a private key: an Ed25519 seed (RFC 8032 §5.1.5) or a secp256k1 scalar.
 * @throws FormationError `invalid` if it is no such key, without the text.
 */
export function keyFromPrivate(kind: KeyKind, hex: string): KeyPair {
  const { isPrivate } = curveOf(kind);
  const bytes = fromHex(hex, 32, "private key");
  if (isPrivate(bytes)) return new Pair(kind, bytes);
  throw new FormationError("invalid", `These 32 bytes are no ${kind} private key.`, { field: "private key" });
}

/**
 * Whether a key signed a message: RFC 8032 §5.1.7, strictly (no small-order key, canonical signatures only).
 * @param publicKey 32 bytes.
 * @param signature 64 bytes.
 * @throws FormationError `invalid` if one of them is no byte array of that length.
 */
export function verifyEd25519(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  asBytes(publicKey, "public key", 32);
  asBytes(message, "message");
  asBytes(signature, "signature", 64);
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false });
  } catch {
    return false;
  }
}

/**
 * Whether 32 bytes are a public key: a point of the curve, but not of small order (those verify anything).
 */
export function isEd25519Key(bytes: Uint8Array): boolean {
  try {
    return !ed25519.Point.fromBytes(bytes).isSmallOrder();
  } catch {
    return false;
  }
}

const CURVES = {
  ed25519: {
    isPrivate: (bytes: Uint8Array): boolean => bytes.length === 32,
    publicOf: (bytes: Uint8Array): Uint8Array => ed25519.getPublicKey(bytes),
    sign: (bytes: Uint8Array, message: Uint8Array): Uint8Array => ed25519.sign(message, bytes),
  },
  secp256k1: {
    isPrivate: (bytes: Uint8Array): boolean => secp256k1.utils.isValidSecretKey(bytes),
    publicOf: (bytes: Uint8Array): Uint8Array => secp256k1.getPublicKey(bytes, true),
    sign: signPersonal,
  },
} as const;

function curveOf(kind: KeyKind): (typeof CURVES)[KeyKind] {
  if ((KEY_KINDS as readonly unknown[]).includes(kind)) return CURVES[kind];
  throw new FormationError("invalid", "There is no such kind of key.", {
    remedy: `Use one of: ${KEY_KINDS.join(", ")}.`,
    field: "kind",
  });
}

class Pair implements KeyPair {
  readonly kind: KeyKind;
  readonly public_key: string;
  readonly address: string | null;
  readonly thumbprint: string;
  readonly #private: Uint8Array;

  constructor(kind: KeyKind, privateKey: Uint8Array) {
    const publicKey = CURVES[kind].publicOf(privateKey);
    this.#private = privateKey;
    this.kind = kind;
    this.public_key = toHex(publicKey);
    this.address = kind === "secp256k1" ? addressOf(publicKey) : null;
    this.thumbprint = jwkThumbprint(this.publicJwk());
  }

  sign(message: Uint8Array): Uint8Array {
    return CURVES[this.kind].sign(this.#private, asBytes(message, "message"));
  }

  publicJwk(): PublicJwk {
    const bytes = CURVES[this.kind].publicOf(this.#private);
    if (this.kind === "ed25519") return { kty: "OKP", crv: "Ed25519", x: toBase64Url(bytes) };
    const point = secp256k1.Point.fromBytes(bytes).toBytes(false);
    return {
      kty: "EC",
      crv: "secp256k1",
      x: toBase64Url(point.slice(1, 33)),
      y: toBase64Url(point.slice(33, 65)),
    };
  }

  revealPrivate(): string {
    return toHex(this.#private);
  }

  toJSON(): PublicKey {
    return {
      kind: this.kind,
      public_key: this.public_key,
      address: this.address,
      thumbprint: this.thumbprint,
    };
  }

  toString(): string {
    return `${this.kind} key ${this.address ?? this.thumbprint}`;
  }
}

function platformRandom(bytes: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(bytes));
}
