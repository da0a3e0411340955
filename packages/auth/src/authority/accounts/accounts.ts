// The rules of accounts: how one is opened, how keys are added and removed, that one admin always remains,
// and how an account or a key is revoked.

import { type Clock, type Documents, FormationError } from "@formation-mcp/contract";
import { type Scope, sortScopes } from "../../principals/scopes.ts";
import { isConflict } from "../storage/documents.ts";
import type { CheckedKey } from "./account-key.ts";
import { type AccountStore, accountNotFound, createAccountStore, hasKey } from "./account-store.ts";
import type { Account, AccountKey } from "./types.ts";

export interface Accounts extends Pick<AccountStore, "get" | "ofKey" | "jwkOf" | "list"> {
  /**
   * The key's account. Creates one with these scopes if the key has none.
   * @throws FormationError `forbidden` if the key was removed from the account that it once opened
   */
  open(key: CheckedKey, scopes: ReadonlySet<Scope>): Promise<Account>;
  /** @throws FormationError `not_found`; `conflict` if no account would be admin any more. */
  setScopes(owner: string, scopes: ReadonlySet<Scope>): Promise<Account>;
  /** @throws FormationError `not_found`; `limit`; `conflict` if the key belongs to another account. */
  addKey(owner: string, key: CheckedKey): Promise<Account>;
  /** Stores the public half of a key that was admitted by its thumbprint only. */
  learnPublicKey(owner: string, key: CheckedKey): Promise<void>;
  /** @throws FormationError `not_found`; `conflict` for the last key. */
  removeKey(owner: string, keyId: string): Promise<Account>;
  /**
   * Makes every token void that was made up to now: of one key, or of the whole account.
   * @returns null if there is no such account
   */
  revoke(owner: string, keyId?: string): Promise<Account | null>;
}

const MAX_KEYS = 32;
/** A second try is enough: after a conflict, the other process has opened the account. */
const MAX_OPEN_TRIES = 2;

export function createAccounts(documents: Documents, clock: Clock): Accounts {
  const store = createAccountStore(documents, clock);
  return {
    get: store.get,
    ofKey: store.ofKey,
    jwkOf: store.jwkOf,
    list: store.list,
    open: (key, scopes) => openAccount(store, key, scopes, clock),
    setScopes: (owner, scopes) => setScopes(store, owner, scopes),
    addKey: async (owner, key) => {
      const account = await store.get(owner);
      if (!account) throw accountNotFound();
      if (hasKey(account, key.id)) return account;
      if (account.keys.length >= MAX_KEYS) {
        throw new FormationError("limit", `An account has at most ${MAX_KEYS} keys.`, {
          remedy: "Remove one that is no longer used.",
        });
      }
      await store.claimKey(key, owner);
      return store.update(owner, (latest) =>
        hasKey(latest, key.id) ? latest : { ...latest, keys: [...latest.keys, accountKey(key, clock.now())] },
      );
    },
    learnPublicKey: (owner, key) => store.claimKey(key, owner),
    removeKey: async (owner, keyId) => {
      const account = await store.update(owner, (latest) => withoutKey(latest, keyId));
      await store.releaseKey(keyId);
      return account;
    },
    revoke: async (owner, keyId) => {
      if (!(await store.get(owner))) return null;
      const now = clock.now();
      return store.update(owner, (account) => revoked(account, keyId, now));
    },
  };
}

async function openAccount(
  store: AccountStore,
  key: CheckedKey,
  scopes: ReadonlySet<Scope>,
  clock: Clock,
): Promise<Account> {
  for (let tries = 1; ; tries++) {
    const existing = await store.ofKey(key.id);
    if (existing) return existing;
    if (await store.get(key.id)) {
      throw new FormationError("forbidden", "This key was removed from the account that it once opened.", {
        remedy: "Sign in with another key of that account, or ask an admin.",
      });
    }
    try {
      await store.claimKey(key, key.id);
      const now = clock.now();
      return await store.create({
        owner: key.id,
        scopes: sortScopes(scopes),
        keys: [accountKey(key, now)],
        created_at: now,
        revoked_at: null,
      });
    } catch (error) {
      // Another process opened it at the same time.
      if (!isConflict(error) || tries >= MAX_OPEN_TRIES) throw error;
    }
  }
}

async function setScopes(store: AccountStore, owner: string, scopes: ReadonlySet<Scope>): Promise<Account> {
  const before = await store.get(owner);
  const losesAdmin = before?.scopes.includes("admin") === true && !scopes.has("admin");
  if (losesAdmin && !(await store.hasOtherAdmin(owner))) throw lastAdmin();
  const changed = await store.update(owner, (account) => ({ ...account, scopes: sortScopes(scopes) }));
  if (!losesAdmin || (await store.hasOtherAdmin(owner))) return changed;
  // The other admin lost the scope at the same time: restore it here.
  await store.update(owner, (account) => ({ ...account, scopes: before.scopes }));
  throw lastAdmin();
}

function withoutKey(account: Account, keyId: string): Account {
  if (!hasKey(account, keyId)) {
    throw new FormationError("not_found", "The account has no such key.", { field: "key" });
  }
  if (account.keys.length === 1) {
    throw new FormationError("conflict", "An account's last key cannot be removed.", {
      remedy: "Add another key first, and sign in with it.",
    });
  }
  return { ...account, keys: account.keys.filter(({ id }) => id !== keyId) };
}

function revoked(account: Account, keyId: string | undefined, now: number): Account {
  const keys = account.keys.filter(({ id }) => keyId === undefined || id === keyId);
  const before = Math.max(account.revoked_at ?? -1, ...keys.map((key) => key.revoked_at ?? -1));
  // A token made since the last revocation may be dated one second later (see `issue-access-token.ts`). This
  // revocation must cover that token too.
  const revoked_at = Math.max(now, (Math.floor(before / 1000) + 1) * 1000);
  if (keyId === undefined) return { ...account, revoked_at };
  return { ...account, keys: account.keys.map((key) => (key.id === keyId ? { ...key, revoked_at } : key)) };
}

function lastAdmin(): FormationError {
  return new FormationError("conflict", "This is the last account that is admin.", {
    remedy: "Make another account admin first.",
    field: "scopes",
  });
}

function accountKey({ id, kind, label }: CheckedKey, now: number): AccountKey {
  return { id, kind, label, created_at: now, revoked_at: null };
}
