// What an authority takes, gives and promises.

import type { Clock, Documents, Logger } from "@formation-mcp/contract";
import type { Bounds, Principal, Scope } from "../principals/principal.ts";

export interface AuthorityOptions {
  documents: Documents;
  /** The server's origin as clients know it, `https://vm.example.org`: the `iss` of every token. */
  issuer: string;
  /** What tokens are for (RFC 8707), the MCP endpoint's URL: the `aud` of every token. */
  audience: string;
  /** 32 bytes that seal signing keys in the database. */
  masterKey: Uint8Array;
  /** Whether any key may open an account. Default: false. */
  openRegistration?: boolean;
  /** What an account of open registration may do. Default: every scope but `admin`. */
  registrationScopes?: ReadonlySet<Scope>;
  clock?: Clock;
  random?: (bytes: number) => Uint8Array;
  logger?: Logger;
}

/** A key as the account list shows it. `id` is an EIP-55 address (secp256k1) or `key:<RFC 7638 thumbprint>` (Ed25519). */
export interface AccountKey {
  id: string;
  kind: "ed25519" | "secp256k1";
  label: string | null;
  created_at: number;
  /** When what it was granted was last taken back, in milliseconds: everything made until then is void. */
  revoked_at: number | null;
}

/** An account: its id is the id of its first key, and the `owner` of its records. */
export interface Account {
  owner: string;
  scopes: Scope[];
  keys: AccountKey[];
  created_at: number;
  /** When all that it was granted was last taken back, in milliseconds: everything made until then is void. */
  revoked_at: number | null;
}

export interface Challenge {
  /** What is to be signed: an EIP-4361 message (CAIP-122 for Ed25519 keys). */
  message: string;
  nonce: string;
  expires_at: number;
}

/** A signature over a challenge's message. */
export interface SignedMessage {
  message: string;
  /** secp256k1: 65 bytes in hex (EIP-191 personal_sign). Ed25519: 64 bytes in base64url or hex, over the message's UTF-8. */
  signature: string;
  /** The public key as JWK: needed for Ed25519, whose id is a thumbprint. */
  publicKey?: object;
}

export interface TokenPair {
  access_token: string;
  token_type: "Bearer";
  /** Seconds. */
  expires_in: number;
  /** Absent for tokens that can't be renewed. */
  refresh_token?: string;
  scope: string;
  owner: string;
}

/** What a valid bearer token says. */
export interface Authenticated {
  principal: Principal;
  /** `jti` of an access token, `tok_…` of an API token. */
  tokenId: string;
  /** The OAuth client, or `formation` for a token of our own. */
  clientId: string;
  /** Seconds since the epoch. */
  expiresAt: number;
  /** Seconds since the epoch. */
  issuedAt?: number;
  /** The key that signed in, if one did. */
  keyId?: string;
  /** What falls with it: a session (`ses_…`), an API token (`tok_…`), or what the OAuth server calls its grant. */
  family?: string;
}

export interface ApiToken {
  id: string;
  name: string;
  scopes: Scope[];
  bounds: Bounds | null;
  created_at: number;
  expires_at: number | null;
  last_used_at: number | null;
}

/** All methods throw FormationError alone: `unauthenticated` for a bad signature or token, `forbidden`, `invalid`. */
export interface Authority {
  readonly issuer: string;
  readonly audience: string;

  /**
   * A message that a key is to sign, good once, for five minutes, here only.
   * @param statement one line that a person reads before signing, e.g. which client will get what.
   */
  challenge(request: {
    address: string;
    statement?: string;
    resources?: readonly string[];
  }): Promise<Challenge>;
  /** Checks a signed challenge and uses it up. Registers the key if registration is open. Makes no token. */
  verify(signed: SignedMessage): Promise<{ account: Account; key: AccountKey }>;
  /** {@link verify}, then an access and a refresh token; scopes are those asked for that the account has (all by default). */
  signIn(signed: SignedMessage, options?: { scopes?: ReadonlySet<Scope> }): Promise<TokenPair>;
  /** Turns a refresh token into a new pair. One that was used before voids its whole family. */
  refresh(refreshToken: string): Promise<TokenPair>;
  /** Who a bearer token is: an access token of ours or of the OAuth server, or an API token (`fmt_…`). */
  authenticate(bearer: string): Promise<Authenticated>;
  /** A token that can do less than the one it is made with: fewer scopes, narrower bounds, a shorter life. */
  narrow(
    by: Authenticated,
    request: { scopes?: ReadonlySet<Scope>; bounds?: Bounds; expiresInSeconds?: number },
  ): Promise<TokenPair>;

  createApiToken(
    by: Authenticated,
    request: { name: string; scopes?: ReadonlySet<Scope>; bounds?: Bounds; expiresInSeconds?: number },
  ): Promise<{ token: string; record: ApiToken }>;
  apiTokens(owner: string): Promise<ApiToken[]>;
  /** Revokes one token: `tok_…`, or the `jti` of an access token with its family. False if the owner has no such token. */
  revokeToken(owner: string, id: string): Promise<boolean>;
  /** RFC 7009 for our own tokens: whoever has the token may end it. Says what ended, and whose; null if it was none. */
  revokeBearer(token: string): Promise<{ owner: string; id: string } | null>;
  /** Ends every token of a key or of a whole account that was made before now. */
  revokeKey(owner: string, keyId: string): Promise<void>;
  revokeOwner(owner: string): Promise<void>;

  account(owner: string): Promise<Account | null>;
  accountOfKey(keyId: string): Promise<Account | null>;
  accounts(page: {
    limit: number;
    cursor?: string | null;
  }): Promise<{ items: Account[]; cursor: string | null }>;
  /** Opens an account for a key (an admin does), or changes the scopes of the one it has. */
  admit(
    key: { id?: string; publicKey?: object; label?: string },
    scopes: ReadonlySet<Scope>,
  ): Promise<Account>;
  /**
   * Changes what an account may do, whatever keys it has by now: its first key may have left it, for another account too.
   * @throws FormationError `not_found`; `conflict` if no account would be admin any more
   */
  setScopes(owner: string, scopes: ReadonlySet<Scope>): Promise<Account>;
  /** Lets another key into an account. It says so itself: with a signed challenge, which is used up. */
  addKey(owner: string, signed: SignedMessage, label?: string): Promise<Account>;
  removeKey(owner: string, keyId: string): Promise<Account>;
  /** The JWK of an Ed25519 key that signs in by itself (private_key_jwt), or null. */
  publicKeyOf(keyId: string): Promise<object | null>;

  /** While there is no account: the one-time token that makes the next key admin, new at each call. Else null. */
  bootstrapToken(): Promise<string | null>;
  /** Makes the key that signed admin, for the bootstrap token. */
  bootstrap(token: string, signed: SignedMessage): Promise<TokenPair>;

  /** The public signing keys (RFC 7517), those that only verify included. */
  jwks(): Promise<{ keys: object[] }>;
  /** The signing keys with their private halves, newest first: for the OAuth server alone. `version` changes on rotation. */
  signingKeys(): Promise<{ version: number; keys: object[] }>;
  /** Makes a new signing key; the old ones verify until what they signed has expired. */
  rotate(): Promise<void>;
  /** Whether it can sign and verify now, for readiness. */
  ready(): Promise<void>;
}
