// Signers: anything that has an id and turns a message into a signature. The private key stays where it is.

import type { KeyPair } from "@formation-mcp/auth/keys";
import { FormationError } from "@formation-mcp/contract";

/** A signature as the server verifies it. */
export interface Signature {
  /**
   * secp256k1: 65 bytes in hex (EIP-191 personal_sign). Ed25519: 64 bytes in base64url, over the message's
   * UTF-8.
   */
  signature: string;
  /** The public key as JWK. Ed25519 keys need it, because their id is a thumbprint. */
  publicKey?: object;
}

/** A key in this process, in a wallet, or behind a service. */
export interface Signer {
  /** `0x…` with its checksum (EIP-55), or `key:<RFC 7638 thumbprint>`. */
  readonly id: string;
  sign(message: string): Signature | Promise<Signature>;
}

/** A browser's wallet (EIP-1193), as far as it is used here. */
export interface Wallet {
  request(request: { method: string; params?: unknown[] }): Promise<unknown>;
}

/** Signs with a key pair of this process. */
export function keySigner(key: KeyPair): Signer {
  return {
    id: key.address ?? `key:${key.thumbprint}`,
    async sign(text) {
      const { signMessage } = await import("@formation-mcp/auth/keys");
      const { message: _, ...signed } = signMessage(key, text);
      return signed;
    },
  };
}

/** Signs with a browser's wallet, which asks its user each time (personal_sign). */
export function walletSigner(wallet: Wallet, address: string): Signer {
  return {
    id: address,
    async sign(message) {
      const text = `0x${hex(new TextEncoder().encode(message))}`;
      return {
        signature: String(await wallet.request({ method: "personal_sign", params: [text, address] })),
      };
    },
  };
}

/** Fetches a key when it is needed. */
export type KeySource = () => Promise<Signer>;

/** A source that fetches its key once. A failed fetch is tried again at the next use. */
export function keySource(key: Signer | KeySource | undefined): KeySource | undefined {
  if (typeof key !== "function") return key && (async () => key);
  let signer: Promise<Signer> | undefined;
  return () => {
    signer ??= key().catch((error: unknown) => {
      signer = undefined;
      throw error;
    });
    return signer;
  };
}

/** @throws FormationError `unauthenticated` if there is no key, and what fetching it throws. */
export async function signerFor(url: string, key: KeySource | undefined): Promise<Signer> {
  if (key) return key();
  throw new FormationError("unauthenticated", `There is no key to sign in to ${url} with.`, {
    remedy: "Give a key.",
  });
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
