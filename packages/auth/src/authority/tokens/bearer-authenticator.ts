// Who a bearer token is. What was verified once is remembered, under the token's hash and never beyond its end, and looked
// up in the store again every two seconds: its account as it is now, and whether it was taken back. Together with the two
// seconds for which an account is remembered, a change made by any process is effective after four (LIMITS.revocationMs).

import type { Clock, Logger } from "@formation-mcp/contract";
import { type Bounds, parseScopes, SCOPES, type Scope } from "../../principals/principal.ts";
import { type AccessClaims, type AccessTokens, MAX_TOKEN_BYTES } from "./access-tokens.ts";
import { type Accounts, grantable } from "../accounts/accounts.ts";
import { type ApiTokenFound, type ApiTokens, isApiToken } from "./api-tokens.ts";
import { Recent } from "./lru-cache.ts";
import { lineage, OWN_CLIENT } from "./issue-access-token.ts";
import { type Revocations, standsBehind } from "./revocation-list.ts";
import { hashOf, refused } from "../storage/secrets.ts";
import type { Account, Authenticated } from "../types.ts";

const RECHECK_MS = 2_000;
const REMEMBERED = 10_000;

/** What a token is good for, whatever its kind. */
interface Credential {
  id: string;
  clientId: string;
  /** The account, or null for an agent that is known by its key alone. */
  owner: string | null;
  key: string | undefined;
  family: string | undefined;
  scopes: ReadonlySet<Scope>;
  bounds: Bounds | undefined;
  /** Milliseconds, both. */
  issuedAt: number;
  endsAt: number;
  /** Whether a record of it must be there. */
  api: boolean;
}

interface Known {
  credential: Credential;
  checkedAt: number;
  who: Authenticated;
  checking: Promise<Authenticated> | null;
}

export interface Bearers {
  authenticate(bearer: string): Promise<Authenticated>;
  /** Forgets what is remembered of an owner, so that a change made by this process is effective in it at once. */
  forget(owner: string): void;
}

export function bearersOf(parts: {
  tokens: AccessTokens;
  apiTokens: ApiTokens;
  accounts: Accounts;
  revocations: Revocations;
  clock: Clock;
  logger: Logger;
}): Bearers {
  const { tokens, apiTokens, accounts, revocations, clock, logger } = parts;
  const known = new Recent<Known>(REMEMBERED);
  const seen = new Recent<{ at: number; account: Promise<Account | null> }>(REMEMBERED);
  const isFresh = (at: number) => Math.abs(clock.now() - at) < RECHECK_MS;

  const remembered = (name: string, read: () => Promise<Account | null>): Promise<Account | null> => {
    const last = seen.get(name);
    if (last && isFresh(last.at)) return last.account;
    const account = read();
    account.catch(() => seen.delete(name));
    seen.set(name, { at: clock.now(), account });
    return account;
  };
  const accountOf = ({ owner, key }: Credential): Promise<Account | null> =>
    owner !== null
      ? remembered(`owner ${owner}`, () => accounts.get(owner))
      : remembered(`key ${key}`, () => accounts.ofKey(key ?? ""));

  /** What the token may do now. @throws FormationError `unauthenticated` if nothing. */
  const check = async (credential: Credential): Promise<Authenticated> => {
    const { id, clientId, key, family, bounds, issuedAt, endsAt } = credential;
    const account = await accountOf(credential);
    if (!account || !standsBehind(account, issuedAt, key)) throw refused();
    if (await revocations.any(account.owner, lineage(id, family))) throw refused();
    const has = grantable(account);
    const scopes = new Set([...credential.scopes].filter((scope) => has.has(scope)));
    return {
      principal: {
        owner: account.owner,
        scopes,
        ...(bounds ? { bounds } : {}),
        credential: id,
        local: false,
      },
      tokenId: id,
      clientId,
      expiresAt: Math.floor(endsAt / 1000),
      issuedAt: issuedAt / 1000,
      ...(key === undefined ? {} : { keyId: key }),
      ...(family === undefined ? {} : { family }),
    };
  };

  const verify = async (bearer: string): Promise<Credential> =>
    isApiToken(bearer) ? fromApiToken(await apiTokens.find(bearer)) : fromClaims(await tokens.read(bearer));

  const note = async (id: string): Promise<void> => {
    try {
      await apiTokens.note(id);
    } catch (error) {
      logger.log("warn", "When a token was last used could not be noted.", { id, error: String(error) });
    }
  };

  const recheck = async (entry: Known): Promise<Authenticated> => {
    const at = clock.now();
    const { id, api } = entry.credential;
    entry.who = await check(api ? fromApiToken(await apiTokens.again(id)) : entry.credential);
    entry.checkedAt = at;
    if (api) await note(id);
    return entry.who;
  };

  return {
    forget: (owner) => {
      known.deleteWhere(({ who }) => who.principal.owner === owner);
      seen.deleteWhere(() => true);
    },
    authenticate: async (bearer) => {
      if (typeof bearer !== "string" || bearer.length > MAX_TOKEN_BYTES) throw refused();
      const name = hashOf(bearer);
      const entry = known.get(name);
      if (entry) {
        if (entry.credential.endsAt <= clock.now()) {
          known.delete(name);
          throw refused();
        }
        if (isFresh(entry.checkedAt)) return entry.who;
        entry.checking ??= recheck(entry)
          .catch((error: unknown) => {
            known.delete(name);
            throw error;
          })
          .finally(() => {
            entry.checking = null;
          });
        return entry.checking;
      }
      const checkedAt = clock.now();
      const credential = await verify(bearer);
      const who = await check(credential);
      if (credential.api) await note(credential.id);
      known.set(name, { credential, checkedAt, who, checking: null });
      return who;
    },
  };
}

function fromClaims(claims: AccessClaims): Credential {
  const { sub, jti, client_id, scope, iat, exp, bounds, key, family } = claims;
  // An agent that signs in by itself is its own client, and known by its key (RFC 6749 §4.4).
  const isAgent = client_id === sub && client_id !== OWN_CLIENT;
  return {
    id: jti,
    clientId: client_id,
    owner: isAgent ? null : sub,
    key: isAgent ? sub : key,
    family,
    scopes: knownScopes(scope),
    bounds,
    issuedAt: iat * 1000,
    endsAt: exp * 1000,
    api: false,
  };
}

function fromApiToken(found: ApiTokenFound | null): Credential {
  if (!found) throw refused();
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
    endsAt: expiresAt,
    api: true,
  };
}

/** OAuth's own scopes (`openid`, `offline_access`) mean nothing here. */
function knownScopes(text: string): ReadonlySet<Scope> {
  const names = text.split(" ").filter((name) => (SCOPES as readonly string[]).includes(name));
  return parseScopes(names.join(" "));
}
