// How accounts are stored. A key belongs to an account when two documents agree: `key-of` names the account,
// and the account lists the key. A half-finished change after a crash therefore belongs to no account; a
// retry completes it, or another account takes the key over after CLAIM_MS.

import { everyItem } from "@formation-mcp/base";
import {
  type Clock,
  type Documents,
  FormationError,
  LIMITS,
  type StoredDocument,
} from "@formation-mcp/contract";
import type { PublicJwk } from "../../keys/jwk.ts";
import { isConflict } from "../storage/documents.ts";
import type { CheckedKey } from "./account-key.ts";
import type { Account } from "./types.ts";

interface KeyOf {
  owner: string;
  jwk: PublicJwk | null;
}

/** A page of accounts, newest first. */
interface AccountPage {
  items: Account[];
  cursor: string | null;
}

export interface AccountStore {
  get(owner: string): Promise<Account | null>;
  /** The account that has the key. */
  ofKey(keyId: string): Promise<Account | null>;
  /** The public half of an Ed25519 key, if it is known. */
  jwkOf(keyId: string): Promise<PublicJwk | null>;
  list(page: { limit: number; cursor?: string | null }): Promise<AccountPage>;
  /** Whether any account other than this one is admin. */
  hasOtherAdmin(owner: string): Promise<boolean>;
  /** @throws FormationError `conflict` if there is such an account */
  create(account: Account): Promise<Account>;
  /**
   * Reads, changes and writes an account (compare-and-set, with retries). Writes nothing if `alter` returns
   * its argument.
   * @throws FormationError `not_found`, and what `alter` throws
   */
  update(owner: string, alter: (account: Account) => Account): Promise<Account>;
  /**
   * Records that a key belongs to an account. The account itself is not changed.
   * @throws FormationError `conflict` if the key belongs to another account, or another account is just
   *   claiming it
   */
  claimKey(key: CheckedKey, owner: string): Promise<void>;
  releaseKey(keyId: string): Promise<void>;
}

const MAX_WRITE_TRIES = 8;
/** An unfinished claim of a key protects the key for this long. */
const CLAIM_MS = 60_000;

export function createAccountStore(documents: Documents, clock: Clock): AccountStore {
  const get = async (owner: string) => (await documents.get<Account>("account", owner))?.doc ?? null;

  return {
    get,
    ofKey: async (keyId) => {
      const claim = await documents.get<KeyOf>("key-of", keyId);
      const account = claim && (await get(claim.doc.owner));
      return account && hasKey(account, keyId) ? account : null;
    },
    jwkOf: async (keyId) => (await documents.get<KeyOf>("key-of", keyId))?.doc.jwk ?? null,
    list: async ({ limit, cursor }) => {
      const page = await documents.list<Account>({ kind: "account", limit, cursor: cursor ?? null });
      return { items: page.items.map((item: StoredDocument<Account>) => item.doc), cursor: page.cursor };
    },
    hasOtherAdmin: async (owner) => {
      const accounts = everyItem((cursor) =>
        documents.list<Account>({ kind: "account", limit: LIMITS.pageSize, cursor }),
      );
      for await (const { doc } of accounts) {
        if (doc.owner !== owner && doc.scopes.includes("admin")) return true;
      }
      return false;
    },
    create: async (account) => {
      const { owner } = account;
      return (await documents.put({ kind: "account", id: owner, owner, doc: account }, 0)).doc;
    },
    update: async (owner, alter) => {
      for (let tries = 1; ; tries++) {
        const stored = await documents.get<Account>("account", owner);
        if (!stored) throw accountNotFound();
        const doc = alter(stored.doc);
        if (doc === stored.doc) return doc;
        try {
          return (await documents.put({ kind: "account", id: owner, owner, doc }, stored.version)).doc;
        } catch (error) {
          if (!isConflict(error) || tries >= MAX_WRITE_TRIES) throw error;
        }
      }
    },
    claimKey: async (key, owner) => {
      const before = await documents.get<KeyOf>("key-of", key.id);
      if (before && before.doc.owner !== owner) {
        const holder = await get(before.doc.owner);
        if ((holder && hasKey(holder, key.id)) || clock.now() - before.updated_at < CLAIM_MS) {
          throw new FormationError("conflict", "This key belongs to another account.", {
            remedy: "Remove it there first, or use another key.",
            field: "key",
          });
        }
      }
      if (before?.doc.owner === owner && (before.doc.jwk !== null || key.jwk === null)) return;
      await documents.put<KeyOf>(
        { kind: "key-of", id: key.id, owner, doc: { owner, jwk: key.jwk } },
        before?.version ?? 0,
      );
    },
    releaseKey: async (keyId) => {
      await documents.remove("key-of", keyId);
    },
  };
}

/** Whether an account lists a key. */
export function hasKey(account: Account, keyId: string): boolean {
  return account.keys.some(({ id }) => id === keyId);
}

export function accountNotFound(): FormationError {
  return new FormationError("not_found", "There is no such account.", { field: "owner" });
}
