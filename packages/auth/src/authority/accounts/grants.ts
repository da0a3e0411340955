// What an account grants: which scopes its tokens may carry, and which of its grants a revocation has made
// void.

import { SCOPES, type Scope } from "../../principals/scopes.ts";
import type { Account } from "./types.ts";

/** The scopes that tokens of an account may carry. `admin` includes every other scope. */
function grantableScopes(account: Account): ReadonlySet<Scope> {
  return new Set(account.scopes.includes("admin") ? SCOPES : account.scopes);
}

/** Those of the scopes that the account may grant. */
export function allowedScopes(account: Account, scopes: Iterable<Scope>): ReadonlySet<Scope> {
  const grantable = grantableScopes(account);
  return new Set([...scopes].filter((scope) => grantable.has(scope)));
}

/**
 * Whether a grant of an account, or of one of its keys, is still valid: neither was revoked at or after the
 * grant, and the key still belongs to the account.
 * @param grantedAt milliseconds; for times known to the second, the beginning of that second.
 */
export function isGrantValid(account: Account, grantedAt: number, keyId: string | null | undefined): boolean {
  if (account.revoked_at !== null && account.revoked_at >= grantedAt) return false;
  if (keyId === null || keyId === undefined) return true;
  const key = account.keys.find(({ id }) => id === keyId);
  return key !== undefined && (key.revoked_at === null || key.revoked_at < grantedAt);
}

/** When the account, or this key of it, was last revoked, in milliseconds; -1 if never. */
export function lastRevoked(account: Account, keyId?: string | null): number {
  const key = account.keys.find(({ id }) => id === keyId);
  return Math.max(account.revoked_at ?? -1, key?.revoked_at ?? -1);
}
