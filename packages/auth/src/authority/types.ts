// The interface of an authority: its options, its methods, and the challenges that it issues.

import type { Clock, Documents, Logger } from "@formation-mcp/contract";
import type { Bounds } from "../principals/principal.ts";
import type { Scope } from "../principals/scopes.ts";
import type { Account, AccountKey } from "./accounts/types.ts";
import type { ApiToken, Authenticated, TokenPair } from "./tokens/types.ts";

export interface AuthorityOptions {
  /** Where everything is stored. */
  documents: Documents;
  /** The server's origin as clients know it, `https://vm.example.org`: the `iss` of every token. */
  issuer: string;
  /** The resource that tokens are for (RFC 8707), the MCP endpoint's URL: the `aud` of every token. */
  audience: string;
  /** 32 bytes that seal the signing keys in the database. */
  masterKey: Uint8Array;
  /** Whether any key may open an account. Default: false. */
  openRegistration?: boolean;
  /** The scopes of an account made by open registration. Default: every scope except `admin`. */
  registrationScopes?: ReadonlySet<Scope>;
  clock?: Clock;
  /** Returns so many random bytes. Default: the platform's cryptographic source. */
  random?: (bytes: number) => Uint8Array;
  logger?: Logger;
}

export interface Challenge {
  /** The text to sign: an EIP-4361 message (CAIP-122 for Ed25519 keys). */
  message: string;
  nonce: string;
  /** Milliseconds since the epoch. */
  expires_at: number;
}

/** A signature over a challenge's message. */
export interface SignedMessage {
  message: string;
  /**
   * secp256k1: 65 bytes in hex (EIP-191 personal_sign). Ed25519: 64 bytes in base64url or hex, over the
   * message's UTF-8.
   */
  signature: string;
  /** The public key as JWK. Ed25519 keys need it, because their id is a thumbprint. */
  publicKey?: object;
}

/**
 * The authority of a server. Every method throws FormationError only: `unauthenticated` for a bad signature
 * or token, `forbidden`, `invalid`, and the codes named at each method.
 */
export interface Authority {
  readonly issuer: string;
  readonly audience: string;

  /**
   * Issues a message for a key to sign. It is valid once, for five minutes, at this server only.
   * @param statement one line that a person reads before signing, e.g. which client will get what.
   */
  challenge(request: {
    address: string;
    statement?: string;
    resources?: readonly string[];
  }): Promise<Challenge>;
  /** Checks a signed challenge and uses it up. Registers the key if registration is open. Issues no token. */
  verify(signed: SignedMessage): Promise<{ account: Account; key: AccountKey }>;
  /**
   * {@link verify}, then issues an access and a refresh token.
   * @param options.scopes which of the account's scopes the tokens carry. Default: all of them.
   */
  signIn(signed: SignedMessage, options?: { scopes?: ReadonlySet<Scope> }): Promise<TokenPair>;
  /**
   * Exchanges a refresh token for a new pair. A token that was used before ends its session (RFC 9700
   * §4.14.2).
   */
  refresh(refreshToken: string): Promise<TokenPair>;
  /**
   * Authenticates a bearer token: an access token of this authority or of the OAuth server, or an API token
   * (`fmt_…`).
   */
  authenticate(bearer: string): Promise<Authenticated>;
  /**
   * Issues an access token with fewer rights than the token that asks for it: fewer scopes, narrower bounds,
   * a shorter life. It cannot be refreshed.
   * @throws FormationError `limit` after four narrowings in a row
   */
  narrow(
    by: Authenticated,
    request: { scopes?: ReadonlySet<Scope>; bounds?: Bounds; expiresInSeconds?: number },
  ): Promise<TokenPair>;

  /**
   * Creates an API token for a caller who signed in with a key. The token is returned once and never stored.
   */
  createApiToken(
    by: Authenticated,
    request: { name: string; scopes?: ReadonlySet<Scope>; bounds?: Bounds; expiresInSeconds?: number },
  ): Promise<{ token: string; record: ApiToken }>;
  apiTokens(owner: string): Promise<ApiToken[]>;
  /**
   * Revokes one token: `tok_…`, `ses_…`, or the `jti` of an access token with everything that descends from
   * it.
   * @returns false if the owner has no such token.
   */
  revokeToken(owner: string, id: string): Promise<boolean>;
  /**
   * Token revocation (RFC 7009): possession of a token is enough to revoke it.
   * @returns what was revoked and whose it was, or null if the text is no valid token.
   */
  revokeBearer(token: string): Promise<{ owner: string; id: string } | null>;
  /** Revokes every token of a key that was made before now. */
  revokeKey(owner: string, keyId: string): Promise<void>;
  /** Revokes every token of an account that was made before now, and its OAuth grants. */
  revokeOwner(owner: string): Promise<void>;

  account(owner: string): Promise<Account | null>;
  accountOfKey(keyId: string): Promise<Account | null>;
  accounts(page: {
    limit: number;
    cursor?: string | null;
  }): Promise<{ items: Account[]; cursor: string | null }>;
  /** For admins: opens an account for a key, or changes the scopes of the account that the key has. */
  admit(
    key: { id?: string; publicKey?: object; label?: string },
    scopes: ReadonlySet<Scope>,
  ): Promise<Account>;
  /**
   * Changes the scopes of an account by the account's id. The id is its first key, which may belong to
   * another account by now.
   * @throws FormationError `not_found`; `conflict` if no account would be admin any more
   */
  setScopes(owner: string, scopes: ReadonlySet<Scope>): Promise<Account>;
  /** Adds a key to an account. The new key proves itself with a signed challenge, which is used up. */
  addKey(owner: string, signed: SignedMessage, label?: string): Promise<Account>;
  removeKey(owner: string, keyId: string): Promise<Account>;
  /** The JWK of an Ed25519 key that authenticates as an OAuth client (private_key_jwt), or null. */
  publicKeyOf(keyId: string): Promise<object | null>;

  /**
   * The one-time token that makes the next key admin, new at each call. Null once there is or was an admin.
   */
  bootstrapToken(): Promise<string | null>;
  /** Makes the key that signed an admin, in exchange for the bootstrap token, and signs it in. */
  bootstrap(token: string, signed: SignedMessage): Promise<TokenPair>;

  /** The public signing keys (RFC 7517), including those that only verify. */
  jwks(): Promise<{ keys: object[] }>;
  /**
   * The signing keys with their private halves, newest first: for the OAuth server only. `version` changes on
   * rotation.
   */
  signingKeys(): Promise<{ version: number; keys: object[] }>;
  /** Makes a new signing key. The old keys verify until everything that they signed has expired. */
  rotate(): Promise<void>;
  /** Readiness check. @throws FormationError `unavailable` if it cannot sign and verify now. */
  ready(): Promise<void>;
}
