// Signing in over REST, as the ancestor's clients do it, and what it lacked: challenges, renewal, revocation.

import { parseScopes, type Scope } from "@formation-mcp/auth";
import type { SignedMessage, TokenPair } from "@formation-mcp/auth/authority";
import { type Clock, FormationError } from "@formation-mcp/contract";
import { z } from "zod";
import { type Route, route } from "./route.ts";

const address = z
  .string()
  .min(1)
  .max(200)
  .describe("The key's id: 0x… (secp256k1) or key:<RFC 7638 thumbprint> (Ed25519)");
const token = z.string().min(1).max(8192);

export const signed = {
  address,
  signed_message: z
    .string()
    .min(1)
    .max(4096)
    .describe("The message of GET /api/auth/challenge, unchanged; anything else is refused"),
  signature: z
    .string()
    .min(1)
    .max(1024)
    .describe("secp256k1: 65 bytes in hex (EIP-191 personal_sign). Ed25519: 64 bytes in base64url or hex"),
  public_key: z.record(z.string(), z.unknown()).optional().describe("JWK; needed for Ed25519 keys"),
};

const scopes = z
  .union([z.array(z.string().max(40)).max(20), z.string().max(400)])
  .optional()
  .describe("Fewer scopes than the account has, as a list or separated by spaces");

/** The ancestor's LoginResponse, with what an OAuth client expects beside it. */
export const signedIn = z.object({
  token: z.string().describe("Access token (JWT), for `Authorization: Bearer`"),
  user_id: z.string().describe("The account: the owner of its records"),
  expires_at: z.int().describe("When the token expires, in seconds since the epoch"),
  permissions: z.array(z.string()).describe("Scopes"),
  token_type: z.literal("Bearer"),
  expires_in: z.int().describe("Seconds"),
  scope: z.string(),
  refresh_token: z.string().optional().describe("For POST /api/auth/refresh; good once"),
});

export function asSignedIn(clock: Clock, pair: TokenPair): z.output<typeof signedIn> {
  return {
    token: pair.access_token,
    user_id: pair.owner,
    expires_at: Math.floor(clock.now() / 1000) + pair.expires_in,
    permissions: pair.scope.split(" ").filter((scope) => scope !== ""),
    token_type: pair.token_type,
    expires_in: pair.expires_in,
    scope: pair.scope,
    ...(pair.refresh_token === undefined ? {} : { refresh_token: pair.refresh_token }),
  };
}

export function scopeSet(list: string | readonly string[] | undefined): ReadonlySet<Scope> | undefined {
  if (list === undefined) return undefined;
  return parseScopes(typeof list === "string" ? list : list.join(" "));
}

interface Shown {
  address: string;
  signed_message: string;
  signature: string;
  public_key?: Record<string, unknown> | undefined;
}

/**
 * The second line of a sign-in message names its key (EIP-4361): who says to be another is not let in as this one.
 * @throws FormationError `unauthenticated`
 */
export function signedMessage({
  address,
  signed_message: message,
  signature,
  public_key,
}: Shown): SignedMessage {
  const named = message.split("\n")[1]?.trim() ?? "";
  if (named.toLowerCase() !== address.toLowerCase()) {
    throw new FormationError("unauthenticated", "The signed message is no challenge for this address.", {
      field: "signed_message",
      remedy: "Get a message from GET /api/auth/challenge?address=…, sign it unchanged, and send it here.",
    });
  }
  return { message, signature, ...(public_key === undefined ? {} : { publicKey: public_key }) };
}

export const AUTH_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api/auth/challenge",
    access: "public",
    tag: "auth",
    id: "challenge",
    summary: "Get a message to sign",
    description: "The message is good once, for five minutes, at this server only (EIP-4361, CAIP-122).",
    query: z.object({ address }),
    data: z.object({
      address: z.string(),
      message: z.string(),
      nonce: z.string(),
      expires_at: z.int().describe("Seconds since the epoch"),
    }),
    errors: [400],
    async handle({ deps, query }) {
      const { message, nonce, expires_at } = await deps.authority.challenge({ address: query.address });
      return { data: { address: query.address, message, nonce, expires_at: Math.floor(expires_at / 1000) } };
    },
  }),
  route({
    method: "POST",
    path: "/api/auth/login",
    access: "public",
    tag: "auth",
    id: "login",
    summary: "Sign in with a signed challenge",
    body: z.object({ ...signed, scopes }),
    data: signedIn,
    errors: [400],
    async handle({ deps, body, note }) {
      note.target = body.address;
      const wanted = scopeSet(body.scopes);
      const pair = await deps.authority.signIn(
        signedMessage(body),
        wanted === undefined ? {} : { scopes: wanted },
      );
      note.owner = pair.owner;
      return { data: asSignedIn(deps.clock, pair) };
    },
  }),
  route({
    method: "POST",
    path: "/api/auth/bootstrap",
    access: "public",
    tag: "auth",
    id: "bootstrap",
    summary: "Make the first key of a fresh server its admin",
    description: "Takes the one-time token that the server prints at its first start.",
    body: z.strictObject({ ...signed, bootstrap_token: token }),
    data: signedIn,
    errors: [400],
    async handle({ deps, body, note }) {
      note.target = body.address;
      const pair = await deps.authority.bootstrap(body.bootstrap_token, signedMessage(body));
      note.owner = pair.owner;
      return { data: asSignedIn(deps.clock, pair) };
    },
  }),
  route({
    method: "POST",
    path: "/api/auth/validate",
    access: "public",
    tag: "auth",
    id: "validateToken",
    summary: "Ask whether a token is valid",
    body: z.object({ token }),
    data: z.object({
      valid: z.literal(true),
      user_id: z.string(),
      permissions: z.array(z.string()),
      expires_at: z.int(),
    }),
    errors: [400],
    async handle({ deps, body, note }) {
      const { principal, expiresAt } = await deps.authority.authenticate(body.token);
      note.owner = principal.owner;
      return {
        data: {
          valid: true,
          user_id: principal.owner,
          permissions: [...principal.scopes],
          expires_at: expiresAt,
        },
      };
    },
  }),
  route({
    method: "POST",
    path: "/api/auth/refresh",
    access: "public",
    tag: "auth",
    id: "refresh",
    summary: "Turn a refresh token into new tokens",
    description: "A refresh token that was used before ends every token that came of it.",
    body: z.strictObject({ refresh_token: token }),
    data: signedIn,
    errors: [400],
    async handle({ deps, body, note }) {
      const pair = await deps.authority.refresh(body.refresh_token);
      note.owner = pair.owner;
      return { data: asSignedIn(deps.clock, pair) };
    },
  }),
  route({
    method: "POST",
    path: "/api/auth/revoke",
    access: "public",
    tag: "auth",
    id: "revoke",
    summary: "End a token",
    description: "Whoever has a token may end it; what is no token is as good as ended (RFC 7009).",
    body: z.strictObject({ token }),
    data: z.object({ revoked: z.literal(true) }),
    errors: [400],
    async handle({ deps, body, note }) {
      const ended = await deps.authority.revokeBearer(body.token);
      if (ended) {
        note.owner = ended.owner;
        note.target = ended.id;
      }
      return { data: { revoked: true } };
    },
  }),
  route({
    method: "GET",
    path: "/api/auth/whoami",
    access: "any",
    tag: "auth",
    id: "whoami",
    summary: "See who the token is",
    data: z.object({
      user_id: z.string(),
      permissions: z.array(z.string()),
      bounds: z.record(z.string(), z.unknown()).nullable(),
      token_id: z.string(),
      client_id: z.string(),
      expires_at: z.int(),
    }),
    async handle({ caller }) {
      const { principal, tokenId, clientId, expiresAt } = caller;
      return {
        data: {
          user_id: principal.owner,
          permissions: [...principal.scopes],
          bounds: principal.bounds ?? null,
          token_id: tokenId,
          client_id: clientId,
          expires_at: expiresAt,
        },
      };
    },
  }),
];
