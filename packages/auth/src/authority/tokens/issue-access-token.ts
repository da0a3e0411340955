// How our own access tokens are made and named. A token's id tells its descent: `ses_F.a` belongs to session F, and
// `ses_F.a~b` was made with it, so whoever reads the id knows every name under which it may have been revoked.

import { LIMITS } from "@formation-mcp/contract";
import type { Bounds, Scope } from "../../principals/principal.ts";
import type { AccessTokens } from "./access-tokens.ts";
import { inOrder } from "../accounts/accounts.ts";
import { lastRevoked } from "./revocation-list.ts";
import type { Secrets } from "../storage/secrets.ts";
import type { Account, TokenPair } from "../types.ts";

/** The client of a token that no OAuth client asked for. */
export const OWN_CLIENT = "formation";

interface Grant {
  account: Account;
  jti: string;
  scopes: ReadonlySet<Scope>;
  clientId?: string;
  keyId?: string | undefined;
  family?: string | undefined;
  bounds?: Bounds | undefined;
  /** Milliseconds, read before the account was: a revocation that comes in between must find the token older. */
  now: number;
  /** Seconds since the epoch; by default and at most 15 minutes from now. */
  expiresAt?: number;
}

export type Mint = (grant: Grant) => Promise<TokenPair>;

export function minting(tokens: AccessTokens): Mint {
  return async ({ account, jti, scopes, clientId = OWN_CLIENT, keyId, family, bounds, now, expiresAt }) => {
    const second = Math.floor(now / 1000);
    const longest = second + LIMITS.accessTokenMs / 1000;
    const exp = Math.min(expiresAt ?? longest, longest);
    // What was revoked within this second must not void what is made after it.
    const iat = Math.max(second, Math.floor(lastRevoked(account, keyId) / 1000) + 1);
    const scope = inOrder(scopes).join(" ");
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

/** Every name under which a token can be revoked: its own, its makers', its family's. */
export function lineage(jti: string, family: string | undefined): Set<string> {
  const names = new Set<string>(family === undefined ? [] : [family]);
  const parts = jti.split("~");
  for (let length = 1; length <= parts.length; length++) names.add(parts.slice(0, length).join("~"));
  return names;
}

/** How often a token was narrowed. */
export function depthOf(jti: string): number {
  return jti.split("~").length - 1;
}

export function childId(jti: string, secrets: Secrets): string {
  return `${jti}~${Buffer.from(secrets.random(12)).toString("base64url")}`;
}
