// What was taken back before its time: single tokens, and families of them. A note stands until the last access token that
// it may concern has expired. It names the owner too, so that nobody can end another's token by knowing its id.

import { type Clock, type Documents, LIMITS } from "@formation-mcp/contract";
import type { Account } from "../types.ts";

const KIND = "revocation";

export interface Revocations {
  add(owner: string, id: string): Promise<void>;
  any(owner: string, ids: Iterable<string>): Promise<boolean>;
}

export function revocationsIn(documents: Documents, clock: Clock): Revocations {
  const nameOf = (owner: string, id: string) => `${owner}/${id}`;
  return {
    add: async (owner, id) => {
      const at = clock.now();
      const expires_at = at + LIMITS.accessTokenMs + 2 * LIMITS.clockSkewMs;
      await documents.put({ kind: KIND, id: nameOf(owner, id), owner, doc: { at }, expires_at });
    },
    any: async (owner, ids) => {
      const found = await Promise.all([...ids].map((id) => documents.get(KIND, nameOf(owner, id))));
      return found.some((note) => note !== null);
    },
  };
}

/**
 * Whether an account still stands behind what it or one of its keys was granted at a time.
 * @param at milliseconds; for what is known to the second, when that second began.
 */
export function standsBehind(account: Account, at: number, keyId: string | null | undefined): boolean {
  if (account.revoked_at !== null && account.revoked_at >= at) return false;
  if (keyId === null || keyId === undefined) return true;
  const key = account.keys.find(({ id }) => id === keyId);
  return key !== undefined && (key.revoked_at === null || key.revoked_at < at);
}

/** The last time that something of an account, or of one of its keys, was taken back; -1 if never. */
export function lastRevoked(account: Account, keyId?: string | null): number {
  const key = account.keys.find(({ id }) => id === keyId);
  return Math.max(account.revoked_at ?? -1, key?.revoked_at ?? -1);
}
