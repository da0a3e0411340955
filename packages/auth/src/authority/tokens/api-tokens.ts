// API tokens for programs without a key: `fmt_<id>_<secret>`, of which only the secret's hash is stored. They are made by
// somebody who signed in with a key, have an end, and say when they were last used.

import { type Clock, type Documents, FormationError, type StoredDocument } from "@formation-mcp/contract";
import type { Bounds, Scope } from "../../principals/principal.ts";
import { inOrder } from "../accounts/accounts.ts";
import { everyOf } from "../storage/list-all.ts";
import type { Revocations } from "./revocation-list.ts";
import { hashOf, type Secrets, sameSecret } from "../storage/secrets.ts";
import type { ApiToken } from "../types.ts";

const KIND = "api-token";
const TOKEN = /^fmt_([0-9a-f]{32})_([A-Za-z0-9_-]{43})$/;
const DAY_SECONDS = 24 * 60 * 60;
const DEFAULT_SECONDS = 90 * DAY_SECONDS;
const MAX_SECONDS = 366 * DAY_SECONDS;
const MAX_TOKENS = 100;
const NOTED_EVERY_MS = 60_000;

interface Stored extends Omit<ApiToken, "id"> {
  hash: string;
  /** The key that had signed in when it was made. */
  key: string | null;
}

/** A token as it was found. */
export interface ApiTokenFound {
  id: string;
  owner: string;
  scopes: Scope[];
  bounds: Bounds | null;
  key: string | null;
  createdAt: number;
  expiresAt: number;
}

export interface ApiTokens {
  create(request: {
    owner: string;
    key: string | null;
    name: string;
    scopes: ReadonlySet<Scope>;
    bounds: Bounds | undefined;
    expiresInSeconds: number | undefined;
    now: number;
  }): Promise<{ token: string; record: ApiToken }>;
  list(owner: string): Promise<ApiToken[]>;
  /** The record of a token that is genuine and has not ended. */
  find(token: string): Promise<ApiTokenFound | null>;
  /** The record of a token that was found before, if it has not ended since. */
  again(id: string): Promise<ApiTokenFound | null>;
  /** Notes that it was used, at most once a minute. */
  note(id: string): Promise<void>;
  remove(owner: string, id: string): Promise<boolean>;
  removeOfKey(owner: string, keyId: string): Promise<void>;
}

/** Whether a text claims to be an API token. */
export function isApiToken(text: string): boolean {
  return text.startsWith("fmt_");
}

export function apiTokensIn(
  documents: Documents,
  revocations: Revocations,
  secrets: Secrets,
  clock: Clock,
): ApiTokens {
  const remove = async (owner: string, id: string): Promise<boolean> => {
    const stored = await documents.get<Stored>(KIND, id);
    if (stored?.owner !== owner) return false;
    // What was made with it must end too.
    await revocations.add(owner, id);
    return documents.remove(KIND, id);
  };

  const foundOf = ({ id, owner, doc }: StoredDocument<Stored>): ApiTokenFound | null => {
    const { scopes, bounds, key, created_at, expires_at } = doc;
    if (owner === null || expires_at === null || expires_at <= clock.now()) return null;
    return { id, owner, scopes, bounds, key, createdAt: created_at, expiresAt: expires_at };
  };

  return {
    remove,
    create: async ({ owner, key, name, scopes, bounds, expiresInSeconds = DEFAULT_SECONDS, now }) => {
      if (typeof name !== "string" || !/^[^\p{C}]{1,64}$/u.test(name)) {
        throw new FormationError("invalid", "A token's name is 1 to 64 printable characters.", {
          field: "name",
        });
      }
      checkLife(expiresInSeconds, MAX_SECONDS);
      if ((await everyOf<Stored>(documents, KIND, owner)).length >= MAX_TOKENS) {
        throw new FormationError("limit", `An account has at most ${MAX_TOKENS} API tokens.`, {
          remedy: "Revoke those that are no longer used.",
        });
      }
      const bare = Buffer.from(secrets.random(16)).toString("hex");
      const secret = Buffer.from(secrets.random(32)).toString("base64url");
      const expires_at = now + expiresInSeconds * 1000;
      const doc: Stored = {
        name,
        scopes: inOrder(scopes),
        bounds: bounds ?? null,
        created_at: now,
        expires_at,
        last_used_at: null,
        hash: hashOf(secret),
        key,
      };
      const stored = await documents.put({ kind: KIND, id: `tok_${bare}`, owner, doc, expires_at }, 0);
      return { token: `fmt_${bare}_${secret}`, record: recordOf(stored) };
    },
    list: async (owner) => (await everyOf<Stored>(documents, KIND, owner)).map(recordOf),
    find: async (token) => {
      const [, bare, secret = ""] = (token.length < 128 && TOKEN.exec(token)) || [];
      const stored = bare === undefined ? null : await documents.get<Stored>(KIND, `tok_${bare}`);
      return stored && sameSecret(hashOf(secret), stored.doc.hash) ? foundOf(stored) : null;
    },
    again: async (id) => {
      const stored = await documents.get<Stored>(KIND, id);
      return stored && foundOf(stored);
    },
    note: async (id) => {
      const stored = await documents.get<Stored>(KIND, id);
      const now = clock.now();
      if (!stored || now - (stored.doc.last_used_at ?? 0) < NOTED_EVERY_MS) return;
      const { owner, doc, expires_at, version } = stored;
      await documents.put({ kind: KIND, id, owner, doc: { ...doc, last_used_at: now }, expires_at }, version);
    },
    removeOfKey: async (owner, keyId) => {
      for (const { id, doc } of await everyOf<Stored>(documents, KIND, owner))
        if (doc.key === keyId) await remove(owner, id);
    },
  };
}

/** @throws FormationError `invalid` unless it is a whole number of seconds, from 1 on. */
export function checkLife(seconds: number, most: number): void {
  if (Number.isSafeInteger(seconds) && seconds >= 1 && seconds <= most) return;
  throw new FormationError("invalid", "A token's life is a whole number of seconds.", {
    remedy: `Give 1 to ${most}.`,
    field: "expiresInSeconds",
  });
}

function recordOf({ id, doc }: StoredDocument<Stored>): ApiToken {
  const { name, scopes, bounds, created_at, expires_at, last_used_at } = doc;
  return { id, name, scopes, bounds, created_at, expires_at, last_used_at };
}
