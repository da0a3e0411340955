// How signing keys are stored. Each generation is one document whose id is its number, so when two processes
// make the next generation at once, only one of them succeeds. The private half is sealed, and the public
// half is always derived from it: write access to the database without the master key is not enough to plant
// a key.

import {
  type Clock,
  type Documents,
  FormationError,
  LIMITS,
  type StoredDocument,
} from "@formation-mcp/contract";
import {
  type CryptoKey,
  calculateJwkThumbprint,
  exportJWK,
  generateKeyPair,
  importJWK,
  type JWK,
} from "jose";
import { isConflict } from "../storage/documents.ts";
import type { Sealed, Secrets } from "../storage/secrets.ts";

const KIND = "signing-key";
const PAGE_KEYS = 50;

/** For how long another process may not know a new key yet. */
export const RELOAD_MS = 60_000;
/**
 * A key verifies for this long after its successor was made: until the last token that it may have signed has
 * expired.
 */
const VERIFY_AFTER_ROTATION_MS = LIMITS.accessTokenMs + RELOAD_MS + 2 * LIMITS.clockSkewMs;

export interface SigningKey {
  generation: number;
  /** The RFC 7638 thumbprint of the public key. */
  kid: string;
  /** Milliseconds since the epoch. */
  createdAt: number;
  publicJwk: JWK;
  privateJwk: JWK;
  sign: CryptoKey;
  verify: CryptoKey;
}

/** The stored document. */
interface Stored {
  kid: string;
  created_at: number;
  sealed: Sealed;
}

export interface SigningKeyStore {
  /** Every stored key, newest first. */
  read(): Promise<SigningKey[]>;
  /** Makes a generation, unless another process has just made it. */
  make(generation: number): Promise<void>;
  /** Those of all keys that still verify. */
  verifying(all: readonly SigningKey[]): SigningKey[];
  /** Removes the keys that no longer verify. */
  prune(all: readonly SigningKey[]): Promise<void>;
  /** Whether there is a key of this name. One index lookup, so that invented names are cheap to refuse. */
  has(kid: string): Promise<boolean>;
  /** @throws FormationError `unavailable` if the key is no longer stored. */
  checkStored(key: SigningKey): Promise<void>;
}

export function createSigningKeyStore(documents: Documents, secrets: Secrets, clock: Clock): SigningKeyStore {
  const imported = new Map<string, SigningKey>();

  const importKey = async (stored: StoredDocument<Stored>): Promise<SigningKey> => {
    const { kid, created_at, sealed } = stored.doc;
    const known = imported.get(kid);
    if (known) return known;
    const privateJwk = JSON.parse(secrets.open(sealed, `${KIND} ${stored.id} ${kid}`)) as JWK;
    const { d: _, ...publicJwk } = privateJwk;
    const [sign, verify] = await Promise.all([importJWK(privateJwk, "EdDSA"), importJWK(publicJwk, "EdDSA")]);
    const key: SigningKey = {
      generation: Number(stored.id),
      kid,
      createdAt: created_at,
      publicJwk,
      privateJwk,
      sign: sign as CryptoKey,
      verify: verify as CryptoKey,
    };
    imported.set(kid, key);
    return key;
  };

  const verifying = (all: readonly SigningKey[]): SigningKey[] =>
    all.filter((_, index) => {
      const successor = all[index - 1];
      return !successor || clock.now() < successor.createdAt + VERIFY_AFTER_ROTATION_MS;
    });

  return {
    verifying,
    read: async () => {
      const { items } = await documents.list<Stored>({ kind: KIND, limit: PAGE_KEYS });
      const keys = await Promise.all(items.map(importKey));
      return keys.sort((a, b) => b.generation - a.generation);
    },
    make: async (generation) => {
      const pair = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
      const { kty, crv, x, d } = await exportJWK(pair.privateKey);
      const kid = await calculateJwkThumbprint({ kty, crv, x } as JWK);
      const jwk = { kty, crv, x, d, kid, use: "sig" };
      const sealed = secrets.seal(JSON.stringify(jwk), `${KIND} ${generation} ${kid}`);
      const doc: Stored = { kid, created_at: clock.now(), sealed };
      try {
        await documents.put<Stored>({ kind: KIND, id: String(generation), alias: kid, doc }, 0);
      } catch (error) {
        if (!isConflict(error)) throw error;
      }
    },
    prune: async (all) => {
      const kept = new Set(verifying(all));
      for (const key of all) if (!kept.has(key)) await documents.remove(KIND, String(key.generation));
    },
    has: async (kid) => (await documents.byAlias(KIND, kid)) !== null,
    checkStored: async ({ generation }) => {
      if (await documents.get(KIND, String(generation))) return;
      throw new FormationError("unavailable", "The signing key is gone from the database.", {
        remedy: "Look at the database: another server may use it with another master key.",
      });
    },
  };
}
