// The claims of tokens: account, key and scopes. They are computed for every token from the account as it is
// then, so that no token outlives what it was made from.

import { SCOPES, type Scope } from "@formation-mcp/auth";
import type { Account, Authority } from "@formation-mcp/auth/authority";
import { type Clock, LIMITS } from "@formation-mcp/contract";
import {
  type AccessToken,
  type ClientCredentials,
  type Configuration,
  errors,
  type KoaContextWithOIDC,
  type ResourceServer,
} from "oidc-provider";
import type { OAuthAudit } from "./audit.ts";
import { SIGNER } from "./challenge-grant.ts";
import { accountScopes } from "./interaction-policy.ts";
import { scopesOf } from "./scopes.ts";

/** The algorithm of every token, by its name in RFC 8037. */
export const ALGORITHM = "EdDSA";

/** The one resource that tokens are for, with the scopes that can be had for it now. */
export function resourceServer(
  audience: string,
  kid: string | undefined,
  scopes: readonly Scope[],
): ResourceServer {
  return {
    audience,
    scope: scopes.join(" "),
    accessTokenFormat: "jwt",
    accessTokenTTL: LIMITS.accessTokenMs / 1000,
    jwt: { sign: { alg: ALGORITHM, ...(kid === undefined ? {} : { kid }) } },
  };
}

/**
 * When the account was read for this request, and when something of it had last been revoked. Milliseconds.
 */
interface Standing {
  readAt: number;
  revokedAt: number;
}

/** The part of the provider's configuration that makes tokens. */
export function tokenConfiguration(
  authority: Authority,
  audit: OAuthAudit,
  clock: Clock,
): Required<Pick<Configuration, "findAccount" | "extraTokenClaims" | "formats">> {
  return {
    async findAccount(ctx, sub, token) {
      const readAt = clock.now();
      const account = await authority.account(sub);
      const signed = signatureOf(token) ?? signatureOf(ctx.oidc.session);
      const key = account?.keys.find(({ id }) => id === signed?.key);
      if (!account || !key || !signed) return undefined;
      // What a revocation ended stays ended, even if documents of it are left.
      const revokedAt = lastRevoked(account, key.id);
      if (signed.at <= revokedAt) return undefined;
      const standing: Standing = { readAt, revokedAt };
      return { accountId: sub, claims: () => ({ sub }), scopes: scopesOf(account), standing };
    },
    async extraTokenClaims(ctx, token) {
      if (!token.scope) throw new errors.InvalidScope("the account has none of these scopes", "");
      const key = keyOf(ctx, token);
      const owner = await ownerOf(authority, token);
      const { clientId = null, jti: credential } = token;
      await audit.record({
        action: "POST /oauth/token",
        owner,
        credential,
        target: clientId,
        address: ctx.ip,
      });
      const family = token.kind === "AccessToken" && token.grantId ? { family: token.grantId } : {};
      return { ...(key === undefined ? {} : { key }), ...family };
    },
    formats: {
      customizers: {
        async jwt(ctx, token, { payload }) {
          if (!payload) return;
          const { key, iat, exp } = payload as { key?: string; iat: number; exp: number };
          const owner = await ownerOf(authority, token);
          payload["sub"] = owner;
          const account = await authority.account(owner);
          if (!account) throw noAccount();
          // The token must be older than a revocation after the account was read, and newer than one before.
          const { readAt, revokedAt } = (ctx.oidc.account?.["standing"] as Standing | undefined) ?? {
            readAt: iat * 1000,
            revokedAt: lastRevoked(account, key),
          };
          const since = Math.max(Math.floor(readAt / 1000), Math.floor(revokedAt / 1000) + 1);
          payload["iat"] = since;
          payload["exp"] = Math.min(exp, since + LIMITS.accessTokenMs / 1000);
        },
      },
    },
  };
}

/** The account of a token. The client id of an agent is its key; the account is the key's. */
async function ownerOf(authority: Authority, token: AccessToken | ClientCredentials): Promise<string> {
  if (token.kind === "AccessToken") return token.accountId;
  const account = await authority.accountOfKey(token.clientId ?? "");
  if (!account) throw noAccount();
  return account.owner;
}

function noAccount(): Error {
  return new errors.InvalidGrant({ detail: "the key has no account" });
}

/** When something of an account or of one of its keys was last revoked, in milliseconds; -1 if never. */
export function lastRevoked(account: Account, keyId: string | undefined): number {
  const key = account.keys.find(({ id }) => id === keyId);
  return Math.max(account.revoked_at ?? -1, key?.revoked_at ?? -1);
}

/**
 * The most scopes that the token of this request may have: all of them while no one is signed in, because the
 * interaction policy checks them later.
 */
export async function heldScopes(
  ctx: KoaContextWithOIDC,
  authority: Authority,
  clientId: string,
): Promise<readonly Scope[]> {
  if (ctx.oidc.route === "authorization" || ctx.oidc.route === "resume") return SCOPES;
  if (ctx.oidc.account) return accountScopes(ctx.oidc.account);
  const account = await authority.accountOfKey(clientId);
  return account ? scopesOf(account) : [];
}

/** The key that signed in for a session, a code or a refresh token, and when (milliseconds). */
function signatureOf(by: unknown): { key: string; at: number } | undefined {
  const { amr, authTime, loginTs } = (by ?? {}) as {
    amr?: readonly string[];
    authTime?: unknown;
    loginTs?: number;
  };
  const key = amr?.[0];
  const at = typeof authTime === "number" ? authTime : loginTs;
  return key === undefined || at === undefined ? undefined : { key, at: at * 1000 };
}

/**
 * The key behind a token: the agent itself, the signer of the challenge, or the key that signed in for the
 * grant.
 */
function keyOf(ctx: KoaContextWithOIDC, token: AccessToken | ClientCredentials): string | undefined {
  if (token.kind === "ClientCredentials") return token.clientId;
  const { entities } = ctx.oidc;
  const direct = entities[SIGNER];
  return typeof direct === "string"
    ? direct
    : signatureOf(entities.RefreshToken ?? entities.AuthorizationCode)?.key;
}
