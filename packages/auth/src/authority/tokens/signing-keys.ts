// The keys that sign access tokens, as one process uses them: cached, read again every minute, and rotated
// every 30 days.

import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import type { Secrets } from "../storage/secrets.ts";
import { createSigningKeyStore, RELOAD_MS, type SigningKey } from "./signing-key-store.ts";

export type { SigningKey };

/** A key signs for this long. */
const SIGNING_PERIOD_MS = 30 * 24 * 60 * 60_000;

export interface SigningKeys {
  /** The key to sign with. Makes one if there is none, or if the newest is too old. */
  current(): Promise<SigningKey>;
  /** The key of this name, if it still verifies. */
  find(kid: string): Promise<SigningKey | null>;
  /** The keys that verify, newest first. */
  all(): Promise<SigningKey[]>;
  rotate(): Promise<void>;
  /** @throws FormationError `unavailable` if the key to sign with is gone from the store. */
  ready(): Promise<void>;
}

export function createSigningKeys(documents: Documents, secrets: Secrets, clock: Clock): SigningKeys {
  const store = createSigningKeyStore(documents, secrets, clock);
  let loaded: { keys: SigningKey[]; at: number } | null = null;
  let loading: Promise<SigningKey[]> | null = null;

  const load = async (): Promise<SigningKey[]> => {
    const at = clock.now();
    let keys = await store.read();
    const newest = keys[0];
    if (!newest || at - newest.createdAt >= SIGNING_PERIOD_MS) {
      await store.make((newest?.generation ?? 0) + 1);
      keys = await store.read();
      await store.prune(keys);
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

  /**
   * The keys as they are now. A read that began earlier may have missed the newest key, so a new read follows
   * it.
   */
  const reread = async (): Promise<SigningKey[]> => {
    await loading?.catch(() => undefined);
    return await reload();
  };

  const cached = async (): Promise<SigningKey[]> => {
    const fresh = loaded && Math.abs(clock.now() - loaded.at) < RELOAD_MS ? loaded.keys : null;
    return fresh ?? (await reload());
  };

  const current = async (): Promise<SigningKey> => {
    const [newest] = await cached();
    if (newest) return newest;
    throw new FormationError("unavailable", "There is no signing key.", { remedy: "Try again." });
  };

  return {
    current,
    find: async (kid) => {
      const known = store.verifying(await cached()).find((key) => key.kid === kid);
      if (known) return known;
      // Another process may have made it a moment ago.
      if (!(await store.has(kid))) return null;
      return store.verifying(await reread()).find((key) => key.kid === kid) ?? null;
    },
    all: async () => store.verifying(await cached()),
    rotate: async () => {
      const before = await store.read();
      await store.make((before[0]?.generation ?? 0) + 1);
      await store.prune(await reread());
    },
    ready: async () => store.checkStored(await current()),
  };
}
