// Sign-in over REST: the ancestor's login, and what the ancestor did not have: challenges, refresh and
// revocation.

import { z } from "zod";
import { type Route, route } from "./route.ts";
import { address, asSignedIn, scopeSet, signed, signedIn, signedMessage } from "./sign-in-schemas.ts";

const token = z.string().min(1).max(8192);
const scopes = z
  .union([z.array(z.string().max(40)).max(20), z.string().max(400)])
  .optional()
  .describe("Fewer scopes than the account has, as a list or separated by spaces");

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
      const { principal, clientId, expiresAt } = caller;
      return {
        data: {
          user_id: principal.owner,
          permissions: [...principal.scopes],
          bounds: principal.bounds ?? null,
          token_id: principal.tokenId,
          client_id: clientId,
          expires_at: expiresAt,
        },
      };
    },
  }),
];
