// The keys that sign access tokens. Each generation is one document, named by its number, so that of two processes that
// make the next one at once a single one does. The private half is sealed, and the public one is always derived from
// what was sealed: who can write the database but has no master key cannot plant a key.

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
import type { Sealed, Secrets } from "../storage/secrets.ts";

const KIND = "signing-key";
/** A key signs for so long. */
const SIGNS_MS = 30 * 24 * 60 * 60_000;
/** How long another process may not know yet that there is a newer key. */
const RELOAD_MS = 60_000;
/** After its successor was made, a key verifies for so long: until the last token that it may have signed has expired. */
const VERIFIES_ON_MS = LIMITS.accessTokenMs + RELOAD_MS + 2 * LIMITS.clockSkewMs;

export interface SigningKey {
  generation: number;
  kid: string;
  createdAt: number;
  publicJwk: JWK;
  privateJwk: JWK;
  sign: CryptoKey;
  verify: CryptoKey;
}

interface Stored {
  kid: string;
  created_at: number;
  sealed: Sealed;
}

export interface SigningKeys {
  /** The key to sign with. */
  current(): Promise<SigningKey>;
  /** The key of this name, if it is one that still verifies. */
  find(kid: string): Promise<SigningKey | null>;
  /** Newest first. */
  all(): Promise<SigningKey[]>;
  rotate(): Promise<void>;
}

export function signingKeys(documents: Documents, secrets: Secrets, clock: Clock): SigningKeys {
  const opened = new Map<string, SigningKey>();
  let loaded: { keys: SigningKey[]; at: number } | null = null;
  let loading: Promise<SigningKey[]> | null = null;

  const open = async (stored: StoredDocument<Stored>): Promise<SigningKey> => {
    const { kid, created_at, sealed } = stored.doc;
    const known = opened.get(kid);
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
    opened.set(kid, key);
    return key;
  };

  /** Makes a generation, unless another process has just made it. */
  const make = async (generation: number): Promise<void> => {
    const pair = await generateKeyPair("EdDSA", { crv: "Ed25519", extractable: true });
    const { kty, crv, x, d } = await exportJWK(pair.privateKey);
    const kid = await calculateJwkThumbprint({ kty, crv, x } as JWK);
    const jwk = { kty, crv, x, d, kid, use: "sig" };
    const sealed = secrets.seal(JSON.stringify(jwk), `${KIND} ${generation} ${kid}`);
    const doc: Stored = { kid, created_at: clock.now(), sealed };
    try {
      await documents.put<Stored>({ kind: KIND, id: String(generation), alias: kid, doc }, 0);
    } catch (error) {
      if (!(error instanceof FormationError && error.code === "conflict")) throw error;
    }
  };

  const read = async (): Promise<SigningKey[]> => {
    const { items } = await documents.list<Stored>({ kind: KIND, limit: 50 });
    const keys = await Promise.all(items.map(open));
    return keys.sort((a, b) => b.generation - a.generation);
  };

  /** Those whose last token may still be good. */
  const verifying = (all: readonly SigningKey[]): SigningKey[] =>
    all.filter((_, index) => {
      const successor = all[index - 1];
      return !successor || clock.now() < successor.createdAt + VERIFIES_ON_MS;
    });

  const prune = async (all: readonly SigningKey[]): Promise<void> => {
    const alive = new Set(verifying(all));
    for (const key of all) if (!alive.has(key)) await documents.remove(KIND, String(key.generation));
  };

  const load = async (): Promise<SigningKey[]> => {
    const at = clock.now();
    let keys = await read();
    const newest = keys[0];
    if (!newest || at - newest.createdAt >= SIGNS_MS) {
      await make((newest?.generation ?? 0) + 1);
      keys = await read();
      await prune(keys);
    }
    loaded = { keys, at };
    return keys;
  };

  const reload = (): Promise<SigningKey[]> => {
    loading ??= load().finally(() => {
      loading = null;
    });
    return loading;
  };

  /** As they are now: a reading that began before the question may have missed the answer. */
  const reread = async (): Promise<SigningKey[]> => {
    await loading?.catch(() => undefined);
    return await reload();
  };

  const keys = async (): Promise<SigningKey[]> => {
    const fresh = loaded && Math.abs(clock.now() - loaded.at) < RELOAD_MS ? loaded.keys : null;
    return fresh ?? (await reload());
  };

  return {
    current: async () => {
      const [newest] = await keys();
      if (newest) return newest;
      throw new FormationError("unavailable", "There is no signing key.", { remedy: "Try again." });
    },
    find: async (kid) => {
      const known = verifying(await keys()).find((key) => key.kid === kid);
      if (known) return known;
      // Another process may have made it a moment ago. One look at an index, so that made-up names cost no more.
      if (!(await documents.byAlias(KIND, kid))) return null;
      return verifying(await reread()).find((key) => key.kid === kid) ?? null;
    },
    all: async () => verifying(await keys()),
    rotate: async () => {
      const before = await read();
      await make((before[0]?.generation ?? 0) + 1);
      await prune(await reread());
    },
  };
}
