// Authenticates bearer tokens. A verified token is cached under its hash, never beyond its expiry, and
// checked against the store again every two seconds: its account as it is now, and whether it was revoked. An
// account is cached for two seconds as well, so a change made by any process is effective after four seconds
// (within LIMITS.revocationMs).

import type { Clock, Logger } from "@formation-mcp/contract";
import type { Bounds } from "../../principals/principal.ts";
import { isScope, parseScopes, type Scope } from "../../principals/scopes.ts";
import type { Accounts } from "../accounts/accounts.ts";
import { allowedScopes, isGrantValid } from "../accounts/grants.ts";
import type { Account } from "../accounts/types.ts";
import { hashOf, invalidToken } from "../storage/secrets.ts";
import { type AccessClaims, type AccessTokens, MAX_TOKEN_BYTES } from "./access-tokens.ts";
import { type ApiTokens, type FoundApiToken, isApiToken } from "./api-tokens.ts";
import { LruCache } from "./lru-cache.ts";
import type { RevocationList } from "./revocation-list.ts";
import { OWN_CLIENT, revocableIds } from "./token-ids.ts";
import type { Authenticated } from "./types.ts";

const RECHECK_MS = 2_000;
const MAX_CACHED = 10_000;

/** What a verified token says, whatever its type. */
interface VerifiedToken {
  id: string;
  clientId: string;
  /** The account. Null for an OAuth client that is known by its key only. */
  owner: string | null;
  key: string | undefined;
  family: string | undefined;
  scopes: ReadonlySet<Scope>;
  bounds: Bounds | undefined;
  /** Milliseconds since the epoch. */
  issuedAt: number;
  /** Milliseconds since the epoch. */
  expiresAt: number;
  /** API tokens are valid only while their record exists. */
  isApiToken: boolean;
}

interface CachedToken {
  token: VerifiedToken;
  checkedAt: number;
  authenticated: Authenticated;
  /** The check that is running, if one is: concurrent calls share it. */
  checking: Promise<Authenticated> | null;
}

export interface BearerAuthenticator {
  /** @throws FormationError `unauthenticated` */
  authenticate(bearer: string): Promise<Authenticated>;
  /** Drops what is cached of an owner, so that a change made by this process is effective in it at once. */
  forget(owner: string): void;
}

export interface BearerAuthenticatorDeps {
  tokens: AccessTokens;
  apiTokens: ApiTokens;
  accounts: Accounts;
  revocations: RevocationList;
  clock: Clock;
  logger: Logger;
}

export function createBearerAuthenticator(deps: BearerAuthenticatorDeps): BearerAuthenticator {
  const { tokens, apiTokens, revocations, clock, logger } = deps;
  const cache = new LruCache<CachedToken>(MAX_CACHED);
  const isFresh = (at: number) => Math.abs(clock.now() - at) < RECHECK_MS;
  const accounts = createAccountCache(deps.accounts, clock, isFresh);

  /**
   * What the token may do now.
   * @throws FormationError `unauthenticated` if it was revoked or has no account.
   */
  const check = async (token: VerifiedToken): Promise<Authenticated> => {
    const { id, key, family, issuedAt } = token;
    const account = await accounts.of(token);
    if (!account || !isGrantValid(account, issuedAt, key)) throw invalidToken();
    if (await revocations.any(account.owner, revocableIds(id, family))) throw invalidToken();
    return authenticatedAs(account, token);
  };

  const verify = async (bearer: string): Promise<VerifiedToken> =>
    isApiToken(bearer) ? fromApiToken(await apiTokens.find(bearer)) : fromClaims(await tokens.verify(bearer));

  const noteUse = async (id: string): Promise<void> => {
    try {
      await apiTokens.noteUse(id);
    } catch (error) {
      logger.log("warn", "When a token was last used could not be noted.", { id, error: String(error) });
    }
  };

  const recheck = async (entry: CachedToken): Promise<Authenticated> => {
    const at = clock.now();
    const { token } = entry;
    entry.authenticated = await check(
      token.isApiToken ? fromApiToken(await apiTokens.findById(token.id)) : token,
    );
    entry.checkedAt = at;
    if (token.isApiToken) await noteUse(token.id);
    return entry.authenticated;
  };

  return {
    forget: (owner) => {
      cache.deleteWhere(({ authenticated }) => authenticated.principal.owner === owner);
      accounts.clear();
    },
    authenticate: async (bearer) => {
      if (typeof bearer !== "string" || bearer.length > MAX_TOKEN_BYTES) throw invalidToken();
      const hash = hashOf(bearer);
      const entry = cache.get(hash);
      if (entry) {
        if (entry.token.expiresAt <= clock.now()) {
          cache.delete(hash);
          throw invalidToken();
        }
        if (isFresh(entry.checkedAt)) return entry.authenticated;
        entry.checking ??= recheck(entry)
          .catch((error: unknown) => {
            cache.delete(hash);
            throw error;
          })
          .finally(() => {
            entry.checking = null;
          });
        return entry.checking;
      }
      const checkedAt = clock.now();
      const token = await verify(bearer);
      const authenticated = await check(token);
      if (token.isApiToken) await noteUse(token.id);
      cache.set(hash, { token, checkedAt, authenticated, checking: null });
      return authenticated;
    },
  };
}

/** The accounts behind tokens, each cached while it is fresh. A failed read is not cached. */
function createAccountCache(accounts: Accounts, clock: Clock, isFresh: (at: number) => boolean) {
  const cache = new LruCache<{ at: number; account: Promise<Account | null> }>(MAX_CACHED);
  const cached = (name: string, read: () => Promise<Account | null>): Promise<Account | null> => {
    const last = cache.get(name);
    if (last && isFresh(last.at)) return last.account;
    const account = read();
    account.catch(() => cache.delete(name));
    cache.set(name, { at: clock.now(), account });
    return account;
  };
  return {
    of: ({ owner, key }: VerifiedToken): Promise<Account | null> =>
      owner !== null
        ? cached(`owner ${owner}`, () => accounts.get(owner))
        : cached(`key ${key}`, () => accounts.ofKey(key ?? "")),
    clear: () => cache.deleteWhere(() => true),
  };
}

function authenticatedAs(account: Account, token: VerifiedToken): Authenticated {
  const { id, clientId, key, family, scopes, bounds, issuedAt, expiresAt } = token;
  return {
    principal: {
      owner: account.owner,
      scopes: allowedScopes(account, scopes),
      ...(bounds ? { bounds } : {}),
      tokenId: id,
      local: false,
    },
    clientId,
    expiresAt: Math.floor(expiresAt / 1000),
    issuedAt: issuedAt / 1000,
    ...(key === undefined ? {} : { keyId: key }),
    ...(family === undefined ? {} : { family }),
  };
}

function fromClaims(claims: AccessClaims): VerifiedToken {
  const { sub, jti, client_id, scope, iat, exp, bounds, key, family } = claims;
  // A client that authenticates by itself is its own subject, and is known by its key (RFC 6749 §4.4).
  const isOwnSubject = client_id === sub && client_id !== OWN_CLIENT;
  return {
    id: jti,
    clientId: client_id,
    owner: isOwnSubject ? null : sub,
    key: isOwnSubject ? sub : key,
    family,
    scopes: knownScopes(scope),
    bounds,
    issuedAt: iat * 1000,
    expiresAt: exp * 1000,
    isApiToken: false,
  };
}

function fromApiToken(found: FoundApiToken | null): VerifiedToken {
  if (!found) throw invalidToken();
  const { id, owner, scopes, bounds, key, createdAt, expiresAt } = found;
  return {
    id,
    clientId: OWN_CLIENT,
    owner,
    key: key ?? undefined,
    family: undefined,
    scopes: new Set(scopes),
    bounds: bounds ?? undefined,
    issuedAt: createdAt,
    expiresAt,
    isApiToken: true,
  };
}

/** The known scopes of a `scope` claim. OAuth's own scopes (`openid`, `offline_access`) are dropped. */
function knownScopes(text: string): ReadonlySet<Scope> {
  return parseScopes(text.split(" ").filter(isScope).join(" "));
}
