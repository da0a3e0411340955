// How access tokens of this authority are issued: which claims they get, when they expire, and how they are
// dated after a revocation.

import { LIMITS } from "@formation-mcp/contract";
import type { Bounds } from "../../principals/principal.ts";
import { type Scope, sortScopes } from "../../principals/scopes.ts";
import { lastRevoked } from "../accounts/grants.ts";
import type { Account } from "../accounts/types.ts";
import type { AccessTokens } from "./access-tokens.ts";
import { OWN_CLIENT } from "./token-ids.ts";
import type { TokenPair } from "./types.ts";

/** What a new access token says. */
interface AccessTokenRequest {
  account: Account;
  jti: string;
  scopes: ReadonlySet<Scope>;
  /** Default: {@link OWN_CLIENT}. */
  clientId?: string;
  keyId?: string | undefined;
  family?: string | undefined;
  bounds?: Bounds | undefined;
  /**
   * Milliseconds, read before the account was read: a revocation in between must find the token older than
   * itself.
   */
  now: number;
  /** Seconds since the epoch. Default and maximum: 15 minutes from now. */
  expiresAt?: number;
}

/** Signs an access token. The result has no refresh token. */
export type IssueAccessToken = (request: AccessTokenRequest) => Promise<TokenPair>;

export function createAccessTokenIssuer(tokens: AccessTokens): IssueAccessToken {
  return async ({ account, jti, scopes, clientId = OWN_CLIENT, keyId, family, bounds, now, expiresAt }) => {
    const second = Math.floor(now / 1000);
    const longest = second + LIMITS.accessTokenMs / 1000;
    const exp = Math.min(expiresAt ?? longest, longest);
    // A revocation within this second must not void a token that is made after it.
    const iat = Math.max(second, Math.floor(lastRevoked(account, keyId) / 1000) + 1);
    const scope = sortScopes(scopes).join(" ");
    const access_token = await tokens.sign({
      sub: account.owner,
      jti,
      client_id: clientId,
      scope,
      iat,
      exp,
      ...(bounds ? { bounds } : {}),
      ...(keyId === undefined ? {} : { key: keyId }),
      ...(family === undefined ? {} : { family }),
    });
    return { access_token, token_type: "Bearer", expires_in: exp - second, scope, owner: account.owner };
  };
}
