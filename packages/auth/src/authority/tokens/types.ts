// What callers get and see of tokens: a new pair, the identity behind a bearer token, the record of an API
// token.

import type { Bounds, Principal } from "../../principals/principal.ts";
import type { Scope } from "../../principals/scopes.ts";

/** The response to a sign-in or a refresh (RFC 6749 §5.1). */
export interface TokenPair {
  access_token: string;
  token_type: "Bearer";
  /** Lifetime of the access token, in seconds. */
  expires_in: number;
  /** Absent for tokens that cannot be refreshed. */
  refresh_token?: string;
  /** Scopes, separated by spaces. */
  scope: string;
  owner: string;
}

/** What a valid bearer token says. */
export interface Authenticated {
  /** Its `tokenId` is the `jti` of an access token, or `tok_…` of an API token. */
  principal: Principal & { readonly tokenId: string };
  /** The OAuth client, or `formation` for a token of this authority. */
  clientId: string;
  /** Seconds since the epoch. */
  expiresAt: number;
  /** Seconds since the epoch. */
  issuedAt?: number;
  /** The key that signed in. Absent if no key did. */
  keyId?: string;
  /**
   * The id that revokes it together with others: a session (`ses_…`), an API token (`tok_…`), or the OAuth
   * server's grant.
   */
  family?: string;
}

/** The record of an API token, without the token. Times are milliseconds since the epoch. */
export interface ApiToken {
  id: string;
  name: string;
  scopes: Scope[];
  bounds: Bounds | null;
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
}
