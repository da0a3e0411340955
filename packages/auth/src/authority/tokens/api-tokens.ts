// API tokens for programs without a key: `fmt_<id>_<secret>`. Only the hash of the secret is stored. A caller
// who signed in with a key creates them; they expire, and the record says when they were last used.

import { type Clock, type Documents, FormationError, type StoredDocument } from "@formation-mcp/contract";
import type { Bounds } from "../../principals/principal.ts";
import { type Scope, sortScopes } from "../../principals/scopes.ts";
import { listAll } from "../storage/documents.ts";
import { hashOf, type Secrets, sameSecret } from "../storage/secrets.ts";
import type { RevocationList } from "./revocation-list.ts";
import type { ApiToken } from "./types.ts";

const KIND = "api-token";
const TOKEN = /^fmt_([0-9a-f]{32})_([A-Za-z0-9_-]{43})$/;
const DAY_SECONDS = 24 * 60 * 60;
const DEFAULT_LIFETIME_SECONDS = 90 * DAY_SECONDS;
const MAX_LIFETIME_SECONDS = 366 * DAY_SECONDS;
const MAX_TOKENS = 100;
/** `last_used_at` is written at most this often. */
const LAST_USED_EVERY_MS = 60_000;

/** The stored document. */
interface Stored extends Omit<ApiToken, "id"> {
  hash: string;
  /** The key that had signed in when the token was created. */
  key: string | null;
}

/** A token that was found and has not expired. Times are milliseconds since the epoch. */
export interface FoundApiToken {
  id: string;
  owner: string;
  scopes: Scope[];
  bounds: Bounds | null;
  key: string | null;
  createdAt: number;
  expiresAt: number;
}

export interface ApiTokens {
  /** @throws FormationError `invalid` for the name or the lifetime; `limit` */
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
  /** Finds a token by its text, if it is genuine and has not expired. */
  find(token: string): Promise<FoundApiToken | null>;
  /** Finds by its id a token that was checked before, if it has not expired or been removed since. */
  findById(id: string): Promise<FoundApiToken | null>;
  /** Records that the token was used, at most once a minute. */
  noteUse(id: string): Promise<void>;
  /** Revokes a token, and with it every token that was made with it. False if the owner has no such token. */
  remove(owner: string, id: string): Promise<boolean>;
  removeOfKey(owner: string, keyId: string): Promise<void>;
}

/** Whether a text has the prefix of an API token. */
export function isApiToken(text: string): boolean {
  return text.startsWith("fmt_");
}

export function createApiTokens(
  documents: Documents,
  revocations: RevocationList,
  secrets: Secrets,
  clock: Clock,
): ApiTokens {
  const remove = async (owner: string, id: string): Promise<boolean> => {
    const stored = await documents.get<Stored>(KIND, id);
    if (stored?.owner !== owner) return false;
    // Access tokens that were made with it must end too.
    await revocations.add(owner, id);
    return documents.remove(KIND, id);
  };

  const unexpired = ({ id, owner, doc }: StoredDocument<Stored>): FoundApiToken | null => {
    const { scopes, bounds, key, created_at, expires_at } = doc;
    if (owner === null || expires_at === null || expires_at <= clock.now()) return null;
    return { id, owner, scopes, bounds, key, createdAt: created_at, expiresAt: expires_at };
  };

  return {
    remove,
    create: async ({
      owner,
      key,
      name,
      scopes,
      bounds,
      expiresInSeconds = DEFAULT_LIFETIME_SECONDS,
      now,
    }) => {
      checkName(name);
      checkLifetime(expiresInSeconds, MAX_LIFETIME_SECONDS);
      if ((await listAll<Stored>(documents, KIND, owner)).length >= MAX_TOKENS) {
        throw new FormationError("limit", `An account has at most ${MAX_TOKENS} API tokens.`, {
          remedy: "Revoke those that are no longer used.",
        });
      }
      const id = Buffer.from(secrets.random(16)).toString("hex");
      const secret = Buffer.from(secrets.random(32)).toString("base64url");
      const expires_at = now + expiresInSeconds * 1000;
      const doc: Stored = {
        name,
        scopes: sortScopes(scopes),
        bounds: bounds ?? null,
        created_at: now,
        expires_at,
        last_used_at: null,
        hash: hashOf(secret),
        key,
      };
      const stored = await documents.put({ kind: KIND, id: `tok_${id}`, owner, doc, expires_at }, 0);
      return { token: `fmt_${id}_${secret}`, record: recordOf(stored) };
    },
    list: async (owner) => (await listAll<Stored>(documents, KIND, owner)).map(recordOf),
    find: async (token) => {
      const [, id, secret = ""] = (token.length < 128 && TOKEN.exec(token)) || [];
      const stored = id === undefined ? null : await documents.get<Stored>(KIND, `tok_${id}`);
      return stored && sameSecret(hashOf(secret), stored.doc.hash) ? unexpired(stored) : null;
    },
    findById: async (id) => {
      const stored = await documents.get<Stored>(KIND, id);
      return stored && unexpired(stored);
    },
    noteUse: async (id) => {
      const stored = await documents.get<Stored>(KIND, id);
      const now = clock.now();
      if (!stored || now - (stored.doc.last_used_at ?? 0) < LAST_USED_EVERY_MS) return;
      const { owner, doc, expires_at, version } = stored;
      await documents.put({ kind: KIND, id, owner, doc: { ...doc, last_used_at: now }, expires_at }, version);
    },
    removeOfKey: async (owner, keyId) => {
      for (const { id, doc } of await listAll<Stored>(documents, KIND, owner))
        if (doc.key === keyId) await remove(owner, id);
    },
  };
}

/** @throws FormationError `invalid` unless it is a whole number of seconds from 1 to `maxSeconds`. */
export function checkLifetime(seconds: number, maxSeconds: number): void {
  if (Number.isSafeInteger(seconds) && seconds >= 1 && seconds <= maxSeconds) return;
  throw new FormationError("invalid", "A token's life is a whole number of seconds.", {
    remedy: `Give 1 to ${maxSeconds}.`,
    field: "expiresInSeconds",
  });
}

function checkName(name: string): void {
  if (typeof name === "string" && /^[^\p{C}]{1,64}$/u.test(name)) return;
  throw new FormationError("invalid", "A token's name is 1 to 64 printable characters.", { field: "name" });
}

function recordOf({ id, doc }: StoredDocument<Stored>): ApiToken {
  const { name, scopes, bounds, created_at, expires_at, last_used_at } = doc;
  return { id, name, scopes, bounds, created_at, expires_at, last_used_at };
}
