// Accounts and their keys. A key belongs to an account when both say so: `key-of` names the account, and the account lists
// the key. What a crash leaves half done is therefore nobody's, and is completed or taken over by the next who comes.

import {
  type Clock,
  type Documents,
  FormationError,
  LIMITS,
  type StoredDocument,
} from "@formation-mcp/contract";
import { fromBase64Url } from "../../keys/bytes.ts";
import { checksumAddress } from "../../keys/ethereum.ts";
import { keyId as idOf } from "../../keys/identity.ts";
import type { PublicJwk } from "../../keys/jwk.ts";
import { isEd25519Key } from "../../keys/pair.ts";
import { SCOPES, type Scope } from "../../principals/principal.ts";
import type { Account, AccountKey } from "../types.ts";

/** A key as it is told to the authority. */
export interface KeyGiven {
  id?: string;
  publicKey?: object;
  label?: string;
}

/** A key whose id and shape were checked. */
export interface KeyKnown {
  id: string;
  kind: AccountKey["kind"];
  jwk: PublicJwk | null;
  label: string | null;
}

interface KeyOf {
  owner: string;
  jwk: PublicJwk | null;
}

const TRIES = 8;
const MAX_KEYS = 32;
/** Who claims a key completes it within this time, or somebody else may. */
const CLAIM_MS = 60_000;
const THUMBPRINT = /^key:[A-Za-z0-9_-]{43}$/;

export interface Accounts {
  get(owner: string): Promise<Account | null>;
  ofKey(keyId: string): Promise<Account | null>;
  jwkOf(keyId: string): Promise<PublicJwk | null>;
  list(page: { limit: number; cursor?: string | null }): Promise<{ items: Account[]; cursor: string | null }>;
  /** The key's account, made with these scopes if it has none. */
  open(key: KeyKnown, scopes: ReadonlySet<Scope>): Promise<Account>;
  /** @throws FormationError `not_found`; `conflict` if no account would be admin any more. */
  setScopes(owner: string, scopes: ReadonlySet<Scope>): Promise<Account>;
  addKey(owner: string, key: KeyKnown): Promise<Account>;
  /** Keeps the public half of a key that was admitted by its thumbprint alone. */
  learn(owner: string, key: KeyKnown): Promise<void>;
  removeKey(owner: string, keyId: string): Promise<Account>;
  /** Notes that everything made until now is void: of one key, or of the whole account. */
  revoke(owner: string, keyId?: string): Promise<Account | null>;
}

export function accountsIn(documents: Documents, clock: Clock): Accounts {
  const get = async (owner: string) => (await documents.get<Account>("account", owner))?.doc ?? null;

  const ofKey = async (keyId: string) => {
    const claim = await documents.get<KeyOf>("key-of", keyId);
    const account = claim && (await get(claim.doc.owner));
    return account && has(account, keyId) ? account : null;
  };

  /** Reads, changes and writes an account until nobody else came between. */
  const change = async (owner: string, alter: (account: Account) => Account): Promise<Account> => {
    for (let tries = 1; ; tries++) {
      const stored = await documents.get<Account>("account", owner);
      if (!stored) throw noAccount();
      const doc = alter(stored.doc);
      if (doc === stored.doc) return doc;
      try {
        return (await documents.put({ kind: "account", id: owner, owner, doc }, stored.version)).doc;
      } catch (error) {
        if (!isConflict(error) || tries >= TRIES) throw error;
      }
    }
  };

  /** Says that a key is an account's. @throws FormationError `conflict` if it is another's. */
  const claim = async (key: KeyKnown, owner: string): Promise<void> => {
    const before = await documents.get<KeyOf>("key-of", key.id);
    if (before && before.doc.owner !== owner) {
      const holder = await get(before.doc.owner);
      if ((holder && has(holder, key.id)) || clock.now() - before.updated_at < CLAIM_MS) {
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
  };

  const open = async (key: KeyKnown, scopes: ReadonlySet<Scope>): Promise<Account> => {
    for (let tries = 1; ; tries++) {
      const known = await ofKey(key.id);
      if (known) return known;
      if (await get(key.id)) {
        throw new FormationError("forbidden", "This key was removed from the account that it once opened.", {
          remedy: "Sign in with another key of that account, or ask an admin.",
        });
      }
      try {
        await claim(key, key.id);
        const now = clock.now();
        const doc: Account = {
          owner: key.id,
          scopes: inOrder(scopes),
          keys: [asListed(key, now)],
          created_at: now,
          revoked_at: null,
        };
        return (await documents.put({ kind: "account", id: key.id, owner: key.id, doc }, 0)).doc;
      } catch (error) {
        // Another process opened it at the same time.
        if (!isConflict(error) || tries >= 2) throw error;
      }
    }
  };

  return {
    get,
    ofKey,
    open,
    jwkOf: async (keyId) => (await documents.get<KeyOf>("key-of", keyId))?.doc.jwk ?? null,
    list: async ({ limit, cursor }) => {
      const page = await documents.list<Account>({ kind: "account", limit, cursor: cursor ?? null });
      return { items: page.items.map((item: StoredDocument<Account>) => item.doc), cursor: page.cursor };
    },
    setScopes: async (owner, scopes) => {
      const before = await get(owner);
      const loses = before?.scopes.includes("admin") === true && !scopes.has("admin");
      if (loses && !(await isAnotherAdmin(documents, owner))) throw lastAdmin();
      const changed = await change(owner, (account) => ({ ...account, scopes: inOrder(scopes) }));
      if (!loses || (await isAnotherAdmin(documents, owner))) return changed;
      // The other one lost it at the same time.
      await change(owner, (account) => ({ ...account, scopes: before.scopes }));
      throw lastAdmin();
    },
    addKey: async (owner, key) => {
      const account = await get(owner);
      if (!account) throw noAccount();
      if (has(account, key.id)) return account;
      if (account.keys.length >= MAX_KEYS) {
        throw new FormationError("limit", `An account has at most ${MAX_KEYS} keys.`, {
          remedy: "Remove one that is no longer used.",
        });
      }
      await claim(key, owner);
      return change(owner, (latest) =>
        has(latest, key.id) ? latest : { ...latest, keys: [...latest.keys, asListed(key, clock.now())] },
      );
    },
    learn: (owner, key) => claim(key, owner),
    removeKey: async (owner, keyId) => {
      const account = await change(owner, (latest) => {
        if (!has(latest, keyId)) {
          throw new FormationError("not_found", "The account has no such key.", { field: "key" });
        }
        if (latest.keys.length === 1) {
          throw new FormationError("conflict", "An account's last key cannot be removed.", {
            remedy: "Add another key first, and sign in with it.",
          });
        }
        return { ...latest, keys: latest.keys.filter(({ id }) => id !== keyId) };
      });
      await documents.remove("key-of", keyId);
      return account;
    },
    revoke: async (owner, keyId) => {
      if (!(await get(owner))) return null;
      const now = clock.now();
      return change(owner, (account) => {
        const keys = account.keys.filter(({ id }) => keyId === undefined || id === keyId);
        const before = Math.max(account.revoked_at ?? -1, ...keys.map((key) => key.revoked_at ?? -1));
        // A token made since the last time may say the second after it (see `minting`): this ends that one too.
        const revoked_at = Math.max(now, (Math.floor(before / 1000) + 1) * 1000);
        if (keyId === undefined) return { ...account, revoked_at };
        return {
          ...account,
          keys: account.keys.map((key) => (key.id === keyId ? { ...key, revoked_at } : key)),
        };
      });
    },
  };
}

/** @throws FormationError `invalid` */
export function checkLabel(label: string | undefined): void {
  if (label === undefined || (typeof label === "string" && /^[^\p{C}]{1,64}$/u.test(label))) return;
  throw new FormationError("invalid", "A key's label is 1 to 64 printable characters.", { field: "label" });
}

/**
 * Checks a key as somebody gave it: an address, or an Ed25519 or secp256k1 JWK.
 * @throws FormationError `invalid`
 */
export function knownKey({ id, publicKey, label }: KeyGiven): KeyKnown {
  const invalid = (message: string) =>
    new FormationError("invalid", message, {
      remedy: "Give the address of a secp256k1 key, or the thumbprint or public JWK of an Ed25519 key.",
      field: "key",
    });
  checkLabel(label);
  const about = { label: label ?? null };
  if (publicKey === undefined) {
    if (id?.startsWith("0x")) return { id: checksumAddress(id), kind: "secp256k1", jwk: null, ...about };
    // A thumbprint is a hash of the key (RFC 7638): who signs with another is told from it.
    if (id !== undefined && THUMBPRINT.test(id)) return { id, kind: "ed25519", jwk: null, ...about };
    throw invalid(id === undefined ? "There is no key." : "This is no key's id.");
  }
  const keyId = idOf(publicKey as PublicJwk);
  const given = id?.startsWith("0x") ? checksumAddress(id) : id;
  if (given !== undefined && given !== keyId) throw invalid("The key and its id do not belong together.");
  if (keyId.startsWith("0x")) return { id: keyId, kind: "secp256k1", jwk: null, ...about };
  const { x } = publicKey as { x: string };
  if (!isEd25519Key(fromBase64Url(x, "x"))) throw invalid("These bytes are no Ed25519 key.");
  return { id: keyId, kind: "ed25519", jwk: { kty: "OKP", crv: "Ed25519", x }, ...about };
}

/** What an account may hand to a token: `admin` has every other scope. */
export function grantable(account: Account): ReadonlySet<Scope> {
  return new Set(account.scopes.includes("admin") ? SCOPES : account.scopes);
}

export function inOrder(scopes: ReadonlySet<Scope>): Scope[] {
  return SCOPES.filter((scope) => scopes.has(scope));
}

export function isConflict(error: unknown): boolean {
  return error instanceof FormationError && error.code === "conflict";
}

async function isAnotherAdmin(documents: Documents, owner: string): Promise<boolean> {
  for (let cursor: string | null = null; ; ) {
    const page: { items: StoredDocument<Account>[]; cursor: string | null } = await documents.list<Account>({
      kind: "account",
      limit: LIMITS.pageSize,
      cursor,
    });
    if (page.items.some(({ doc }) => doc.owner !== owner && doc.scopes.includes("admin"))) return true;
    if (page.cursor === null) return false;
    cursor = page.cursor;
  }
}

function lastAdmin(): FormationError {
  return new FormationError("conflict", "This is the last account that is admin.", {
    remedy: "Make another account admin first.",
    field: "scopes",
  });
}

function has(account: Account, keyId: string): boolean {
  return account.keys.some(({ id }) => id === keyId);
}

function asListed({ id, kind, label }: KeyKnown, now: number): AccountKey {
  return { id, kind, label, created_at: now, revoked_at: null };
}

function noAccount(): FormationError {
  return new FormationError("not_found", "There is no such account.", { field: "owner" });
}
