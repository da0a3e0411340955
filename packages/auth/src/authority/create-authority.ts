// The authority, put together: who may ask for what. How each part is kept is the parts' business.

import { FormationError, LIMITS, silentLogger, systemClock } from "@formation-mcp/contract";
import { allScopes, SCOPES, type Scope } from "../principals/principal.ts";
import { accessTokens } from "./tokens/access-tokens.ts";
import { accountsIn, checkLabel, grantable, type KeyKnown, knownKey } from "./accounts/accounts.ts";
import { apiTokensIn, checkLife, isApiToken } from "./tokens/api-tokens.ts";
import { bearersOf } from "./tokens/bearer-authenticator.ts";
import { bootstrapIn, notOpen } from "./accounts/bootstrap.ts";
import { shrinkBounds, shrinkScopes } from "./tokens/bounds.ts";
import { challengesIn } from "./challenges.ts";
import { childId, depthOf, lineage, minting, OWN_CLIENT } from "./tokens/issue-access-token.ts";
import { lastRevoked, revocationsIn, standsBehind } from "./tokens/revocation-list.ts";
import { refused, secretsOf } from "./storage/secrets.ts";
import { sessionsIn } from "./tokens/sessions.ts";
import { signingKeys } from "./tokens/signing-keys.ts";
import type {
  Account,
  AccountKey,
  Authenticated,
  Authority,
  AuthorityOptions,
  SignedMessage,
} from "./types.ts";

/** How often a token may be narrowed again. */
const MAX_DEPTH = 4;
/** What falls with an account, beside its access tokens; the OAuth server's records are among it. */
const KINDS_OF_OWNER = ["refresh", "api-token", "oidc:Grant", "oidc:RefreshToken", "oidc:AuthorizationCode"];
/** An access token's id as the OAuth server makes it. */
const FOREIGN_ID = /^[A-Za-z0-9_-]{16,128}(?:~[A-Za-z0-9_-]{16})*$/;
const OWN_ID = /^(ses|tok)_[0-9a-f]{32}/;

/**
 * The authority over what `documents` holds. It does nothing until it is asked, so it needs no closing.
 * @throws FormationError `invalid` if the issuer is no origin or the master key is not 32 bytes.
 */
export function createAuthority(options: AuthorityOptions): Authority {
  const { documents, issuer, audience, clock = systemClock, logger = silentLogger } = options;
  const { openRegistration = false, registrationScopes = allScopes() } = options;
  if (!URL.canParse(issuer) || new URL(issuer).origin !== issuer) {
    throw new FormationError("invalid", "The issuer is no origin.", {
      remedy: "Give scheme, host and port without a slash at the end: https://vm.example.org.",
      field: "issuer",
    });
  }
  const secrets = secretsOf(options.masterKey, options.random ?? platformRandom);
  const keys = signingKeys(documents, secrets, clock);
  const tokens = accessTokens(keys, { issuer, audience }, clock);
  const accounts = accountsIn(documents, clock);
  const revocations = revocationsIn(documents, clock);
  const challenges = challengesIn(documents, issuer, secrets, clock, accounts.jwkOf);
  const apiTokens = apiTokensIn(documents, revocations, secrets, clock);
  const mint = minting(tokens);
  const sessions = sessionsIn(documents, { accounts, revocations, mint, secrets, clock, logger });
  const bearers = bearersOf({ tokens, apiTokens, accounts, revocations, clock, logger });
  const bootstrap = bootstrapIn(documents, secrets, clock);

  const verify = async (signed: SignedMessage): Promise<{ account: Account; key: AccountKey }> => {
    const key = await challenges.redeem(signed);
    const known = await accounts.ofKey(key.id);
    if (!known && !openRegistration) {
      throw new FormationError("forbidden", "This key has no account here.", {
        remedy: `Ask an admin of this server to admit ${key.id}.`,
      });
    }
    if (known && key.jwk !== null) await accounts.learn(known.owner, key);
    const account = known ?? (await accounts.open(key, without(registrationScopes, "admin")));
    return { account, key: listed(account, key) };
  };

  /** The account behind a token, read now: what was taken back a moment ago must make nothing new. */
  const maker = async (by: Authenticated): Promise<{ account: Account; now: number }> => {
    const now = clock.now();
    const account = await accounts.get(by.principal.owner);
    const issuedAt = (by.issuedAt ?? 0) * 1000;
    if (!account || by.expiresAt * 1000 <= now || !standsBehind(account, issuedAt, by.keyId)) throw refused();
    if (await revocations.any(account.owner, lineage(by.tokenId, by.family))) throw refused();
    return { account, now };
  };

  const allowed = (account: Account, scopes: ReadonlySet<Scope>): ReadonlySet<Scope> => {
    const has = grantable(account);
    return new Set([...scopes].filter((scope) => has.has(scope)));
  };

  const signIn: Authority["signIn"] = async (signed, { scopes } = {}) => {
    const { account: found, key } = await verify(signed);
    const now = clock.now();
    const account = (await accounts.get(found.owner)) ?? found;
    return sessions.begin(account, key.id, allowed(account, scopes ?? new Set(account.scopes)), now);
  };

  /** The key's account with these scopes, made if there is none. */
  const give = async (key: KeyKnown, scopes: ReadonlySet<Scope>): Promise<Account> => {
    const { owner } = await accounts.open(key, scopes);
    return await settled(owner, accounts.setScopes(owner, scopes));
  };

  const admit: Authority["admit"] = async (given, scopes) => {
    const known = given.id === undefined ? null : await accounts.ofKey(given.id);
    const key = known && given.publicKey === undefined ? null : knownKey(given);
    const owner = known?.owner ?? (key ? await ownerOf(key) : "");
    return await raised(owner, scopes, () => (key ? give(key, scopes) : changed(owner, scopes)));
  };

  const changed = (owner: string, scopes: ReadonlySet<Scope>) =>
    settled(owner, accounts.setScopes(owner, scopes));

  /** Where there is an admin, the bootstrap token is void. */
  const raised = async (owner: string, scopes: ReadonlySet<Scope>, change: () => Promise<Account>) => {
    if (scopes.has("admin")) await bootstrap.close(owner);
    const account = await change();
    if (scopes.has("admin")) await bootstrap.confirm(owner);
    return account;
  };

  /** The account that a key has, or would open. */
  const ownerOf = async (key: KeyKnown) => (await accounts.ofKey(key.id))?.owner ?? key.id;

  /** What this process itself changed is effective in it at once. */
  const settled = async <T>(owner: string, change: Promise<T>): Promise<T> => {
    try {
      return await change;
    } finally {
      bearers.forget(owner);
    }
  };

  const revokeToken = async (owner: string, id: string): Promise<boolean> => {
    if (typeof id !== "string" || id.length > 512) return false;
    const [root = ""] = id.split("~");
    const [family = ""] = root.split(".");
    if (id === root && id.startsWith("tok_")) return await apiTokens.remove(owner, id);
    if (id === root && id.startsWith("ses_")) return await sessions.end(owner, family);
    if (OWN_ID.test(family)) {
      const parent = await documents.get(family.startsWith("tok_") ? "api-token" : "refresh", family);
      if (parent?.owner !== owner) return false;
    } else if (!FOREIGN_ID.test(id)) return false;
    await revocations.add(owner, id);
    return true;
  };

  const ended = async (token: string): Promise<{ owner: string; id: string } | null> => {
    if (token.startsWith("fmr_")) {
      const owner = await sessions.endBy(token);
      if (owner === null) return null;
      bearers.forget(owner);
      return { owner, id: `ses_${token.slice(4, 36)}` };
    }
    if (isApiToken(token)) {
      const found = await apiTokens.find(token);
      if (found) await settled(found.owner, apiTokens.remove(found.owner, found.id));
      return found && { owner: found.owner, id: found.id };
    }
    const { principal, tokenId } = await bearers.authenticate(token);
    const { owner } = principal;
    if (!(await settled(owner, revokeToken(owner, tokenId)))) await revocations.add(owner, tokenId);
    return { owner, id: tokenId };
  };

  return {
    issuer,
    audience,
    challenge: challenges.issue,
    verify,
    signIn,
    refresh: async (refreshToken) => {
      if (typeof refreshToken !== "string") throw refused();
      return await sessions.refresh(refreshToken);
    },
    authenticate: bearers.authenticate,
    narrow: async (by, { scopes, bounds, expiresInSeconds }) => {
      const { account, now } = await maker(by);
      if (expiresInSeconds !== undefined) checkLife(expiresInSeconds, LIMITS.accessTokenMs / 1000);
      if (depthOf(by.tokenId) >= MAX_DEPTH) {
        throw new FormationError("limit", `A token can be narrowed at most ${MAX_DEPTH} times in a row.`, {
          remedy: "Make this token with one of those that it descends from.",
        });
      }
      const shrunk = shrinkBounds(by.principal.bounds, bounds);
      const second = Math.floor(now / 1000);
      return await mint({
        account,
        jti: childId(by.tokenId, secrets),
        scopes: allowed(account, shrinkScopes(by.principal, scopes)),
        clientId: by.clientId,
        keyId: by.keyId,
        family: by.family,
        bounds: shrunk,
        now,
        expiresAt: Math.min(by.expiresAt, second + (expiresInSeconds ?? LIMITS.accessTokenMs / 1000)),
      });
    },
    createApiToken: async (by, { name, scopes, bounds, expiresInSeconds }) => {
      const { account, now } = await maker(by);
      // What outlives the token that it was made with must come from the key itself, not from something handed on.
      if (by.clientId !== OWN_CLIENT || !by.tokenId.startsWith("ses_") || depthOf(by.tokenId) > 0) {
        throw new FormationError("forbidden", "API tokens are made by somebody who signed in with a key.", {
          remedy: "Sign in with your key and make the token then.",
        });
      }
      return await apiTokens.create({
        owner: account.owner,
        key: by.keyId ?? null,
        name,
        scopes: allowed(account, shrinkScopes(by.principal, scopes)),
        bounds: shrinkBounds(by.principal.bounds, bounds),
        expiresInSeconds,
        // What was revoked within this millisecond must not void what is made after it.
        now: Math.max(now, lastRevoked(account, by.keyId) + 1),
      });
    },
    apiTokens: apiTokens.list,
    revokeToken: (owner, id) => settled(owner, revokeToken(owner, id)),
    revokeBearer: async (token) => {
      try {
        return typeof token === "string" && token.length <= 8192 ? await ended(token) : null;
      } catch (error) {
        // A token that is not valid is what the caller wanted (RFC 7009 §2.2).
        if (error instanceof FormationError && error.code === "unauthenticated") return null;
        throw error;
      }
    },
    revokeKey: async (owner, keyId) => {
      await settled(owner, accounts.revoke(owner, keyId));
      await sessions.endOfKey(owner, keyId);
      await apiTokens.removeOfKey(owner, keyId);
    },
    revokeOwner: async (owner) => {
      await settled(owner, accounts.revoke(owner));
      await documents.removeAll({ kinds: KINDS_OF_OWNER, owner });
    },
    account: accounts.get,
    accountOfKey: accounts.ofKey,
    accounts: accounts.list,
    admit,
    setScopes: (owner, scopes) => raised(owner, scopes, () => changed(owner, scopes)),
    addKey: async (owner, signed, label) => {
      checkLabel(label);
      const { id, jwk } = await challenges.redeem(signed);
      const key = knownKey({
        ...(jwk === null ? { id } : { publicKey: jwk }),
        ...(label === undefined ? {} : { label }),
      });
      return await settled(owner, accounts.addKey(owner, key));
    },
    removeKey: async (owner, keyId) => {
      const account = await settled(owner, accounts.removeKey(owner, keyId));
      await sessions.endOfKey(owner, keyId);
      await apiTokens.removeOfKey(owner, keyId);
      return account;
    },
    publicKeyOf: async (keyId) => ((await accounts.ofKey(keyId)) ? await accounts.jwkOf(keyId) : null),
    bootstrapToken: bootstrap.token,
    bootstrap: async (token, signed) => {
      await bootstrap.check(token);
      const key = await challenges.redeem(signed);
      const owner = await ownerOf(key);
      if (!(await bootstrap.close(owner))) throw notOpen();
      const now = clock.now();
      const all = new Set<Scope>(SCOPES);
      const account = await give(key, all);
      await bootstrap.confirm(owner);
      return await sessions.begin(account, key.id, all, now);
    },
    jwks: async () => ({
      keys: (await keys.all()).map(({ publicJwk }) => ({ ...publicJwk, alg: "EdDSA" })),
    }),
    signingKeys: async () => {
      const every = await keys.all();
      return { version: every[0]?.generation ?? 0, keys: every.map(({ privateJwk }) => ({ ...privateJwk })) };
    },
    rotate: keys.rotate,
    ready: async () => {
      const { generation } = await keys.current();
      if (await documents.get("signing-key", String(generation))) return;
      throw new FormationError("unavailable", "The signing key is gone from the database.", {
        remedy: "Look at the database: another server may use it with another master key.",
      });
    },
  };
}

function listed(account: Account, key: KeyKnown): AccountKey {
  const found = account.keys.find(({ id }) => id === key.id);
  if (found) return found;
  throw new FormationError("conflict", "The key was removed from its account meanwhile.", {
    remedy: "Sign in with another key.",
  });
}

function without(scopes: ReadonlySet<Scope>, scope: Scope): ReadonlySet<Scope> {
  return new Set([...scopes].filter((name) => name !== scope));
}

function platformRandom(bytes: number): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(bytes));
}
