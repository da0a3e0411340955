// An account's own keys and tokens. What lasts longer, or can do more, than the token in hand is only given to whoever
// signed in with a key, with all that the account may do: a stolen or narrowed token must not become a key.

import { type Bounds, SCOPES } from "@formation-mcp/auth";
import type { Account, ApiToken } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import { z } from "zod";
import { asSignedIn, scopeSet, signed, signedIn, signedMessage } from "./auth-routes.ts";
import { type Exchange, type Route, route } from "./route.ts";

/** A token that a signature gave: neither an OAuth client's, nor an API token, nor made with another token. */
const SIGNED_IN = /^ses_[^~]*$/;

export const scope = z.enum(SCOPES);
const scopes = z.array(scope).min(1).max(SCOPES.length);
export const newKey = z.strictObject({
  id: z.string().min(1).max(200).optional().describe("0x… (secp256k1) or key:<thumbprint>"),
  public_key: z.record(z.string(), z.unknown()).optional().describe("Instead: the public key as JWK"),
  label: z.string().max(100).optional(),
});
const key = z.object({
  id: z.string(),
  kind: z.enum(["ed25519", "secp256k1"]),
  label: z.string().nullable(),
  created_at: z.string(),
});
const bounds = z
  .strictObject({
    instances: z.array(z.string().min(1).max(80)).min(1).max(100).optional().describe("Instances by name"),
    metadata: z.record(z.string().max(256), z.string().max(256)).optional(),
  })
  .describe("A fence: every condition given must hold");
const expires = z.int().min(1).max(315_360_000).optional().describe("From now on");

const apiToken = z.object({
  id: z.string(),
  name: z.string(),
  scopes: z.array(z.string()),
  bounds: z.record(z.string(), z.unknown()).nullable(),
  created_at: z.string(),
  expires_at: z.string().nullable(),
  last_used_at: z.string().nullable(),
});

export const account = z.object({
  user_id: z.string(),
  permissions: z.array(z.string()),
  keys: z.array(key),
  created_at: z.string(),
});

export function accountView(one: Account): z.output<typeof account> {
  return {
    user_id: one.owner,
    permissions: one.scopes,
    keys: one.keys.map(({ created_at, ...rest }) => ({ ...rest, created_at: iso(created_at) })),
    created_at: iso(one.created_at),
  };
}

export function iso(time: number): string {
  return new Date(time).toISOString();
}

/** What the authority takes as a key. */
export function keyOf(given: z.output<typeof newKey>): { id?: string; publicKey?: object; label?: string } {
  const { id, public_key, label } = given;
  if ((id === undefined) === (public_key === undefined)) {
    throw new FormationError("invalid", "Give either id or public_key.", { field: "id" });
  }
  return {
    ...(id === undefined ? {} : { id }),
    ...(public_key === undefined ? {} : { publicKey: public_key }),
    ...(label === undefined ? {} : { label }),
  };
}

/**
 * The account of a caller who signed in with a key, with all that the account may do.
 * @throws FormationError `forbidden`
 */
async function signedInAccount({ deps, caller }: Exchange): Promise<Account> {
  const { principal, clientId, tokenId } = caller;
  const own = await deps.authority.account(principal.owner);
  const whole =
    own !== null && (principal.scopes.has("admin") || own.scopes.every((one) => principal.scopes.has(one)));
  if (whole && principal.bounds === undefined && clientId === "formation" && SIGNED_IN.test(tokenId))
    return own;
  throw new FormationError("forbidden", "This token can't manage keys and tokens.", {
    remedy: "Sign in with a key at POST /api/auth/login, for all scopes, and use that token.",
  });
}

function tokenView(token: ApiToken): z.output<typeof apiToken> {
  const { created_at, expires_at, last_used_at } = token;
  return {
    id: token.id,
    name: token.name,
    scopes: token.scopes,
    bounds: token.bounds === null ? null : { ...token.bounds },
    created_at: iso(created_at),
    expires_at: expires_at === null ? null : iso(expires_at),
    last_used_at: last_used_at === null ? null : iso(last_used_at),
  };
}

interface Less {
  scopes?: z.output<typeof scopes> | undefined;
  bounds?: z.output<typeof bounds> | undefined;
  expires_in_seconds?: number | undefined;
}

function lessOf({ scopes: list, bounds: fence, expires_in_seconds }: Less) {
  const set = scopeSet(list);
  return {
    ...(set === undefined ? {} : { scopes: set }),
    ...(fence === undefined ? {} : { bounds: fence as Bounds }),
    ...(expires_in_seconds === undefined ? {} : { expiresInSeconds: expires_in_seconds }),
  };
}

export const ACCOUNT_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api/keys",
    access: "any",
    tag: "auth",
    id: "listKeys",
    summary: "List the account's keys",
    data: z.object({ keys: z.array(key) }),
    async handle({ deps, caller }) {
      const own = await deps.authority.account(caller.principal.owner);
      return { data: { keys: own === null ? [] : accountView(own).keys } };
    },
  }),
  route({
    method: "POST",
    path: "/api/keys",
    access: "any",
    tag: "auth",
    id: "addKey",
    summary: "Let another key into the account",
    description:
      "Needs a token of a sign-in with a key, for all that the account may do, and the new key's own word: a challenge that it signed. Nobody is let into an account unasked.",
    body: z.strictObject({ ...signed, label: z.string().max(100).optional() }),
    data: z.object({ keys: z.array(key) }),
    errors: [400, 409],
    async handle(exchange) {
      const { deps, body, note } = exchange;
      note.target = body.address;
      const { owner } = await signedInAccount(exchange);
      const account = await deps.authority.addKey(owner, signedMessage(body), body.label);
      return { data: { keys: accountView(account).keys } };
    },
  }),
  route({
    method: "DELETE",
    path: "/api/keys/{id}",
    access: "any",
    tag: "auth",
    id: "removeKey",
    summary: "Remove a key and end its tokens",
    data: z.object({ keys: z.array(key) }),
    errors: [404, 409],
    async handle(exchange) {
      const { deps, params } = exchange;
      const { id = "" } = params;
      const { owner } = await signedInAccount(exchange);
      return { data: { keys: accountView(await deps.authority.removeKey(owner, id)).keys } };
    },
  }),
  route({
    method: "DELETE",
    path: "/api/keys/{id}/tokens",
    access: "any",
    tag: "auth",
    id: "revokeKeyTokens",
    summary: "End every token of a key",
    data: z.object({ revoked: z.literal(true) }),
    errors: [404],
    async handle(exchange) {
      const { deps, params } = exchange;
      const { id = "" } = params;
      const own = await signedInAccount(exchange);
      if (!own.keys.some((one) => one.id === id)) throw noSuch("key");
      await deps.authority.revokeKey(own.owner, id);
      return { data: { revoked: true } };
    },
  }),
  route({
    method: "GET",
    path: "/api/tokens",
    access: "any",
    tag: "auth",
    id: "listTokens",
    summary: "List the account's API tokens",
    description: "Never the tokens themselves: what is kept is their hash.",
    data: z.object({ tokens: z.array(apiToken) }),
    async handle({ deps, caller }) {
      const tokens = await deps.authority.apiTokens(caller.principal.owner);
      return { data: { tokens: tokens.map(tokenView) } };
    },
  }),
  route({
    method: "POST",
    path: "/api/tokens",
    access: "any",
    tag: "auth",
    id: "createToken",
    summary: "Make an API token",
    description: "For machines that can't sign in. The token is shown this once.",
    body: z.strictObject({
      name: z.string().min(1).max(100),
      scopes: scopes.optional(),
      bounds: bounds.optional(),
      expires_in_seconds: expires,
    }),
    data: apiToken.extend({ token: z.string() }),
    errors: [400],
    async handle(exchange) {
      const { deps, caller, body, note } = exchange;
      await signedInAccount(exchange);
      const { token, record } = await deps.authority.createApiToken(caller, {
        name: body.name,
        ...lessOf(body),
      });
      note.target = record.id;
      return { data: { token, ...tokenView(record) } };
    },
  }),
  route({
    method: "POST",
    path: "/api/tokens/narrow",
    access: "any",
    tag: "auth",
    id: "narrowToken",
    summary: "Make a token that can do less than this one",
    description: "Fewer scopes, narrower bounds, a shorter life: to be handed to somebody who needs no more.",
    body: z.strictObject({
      scopes: scopes.optional(),
      bounds: bounds.optional(),
      expires_in_seconds: expires,
    }),
    data: signedIn,
    errors: [400],
    async handle({ deps, caller, body }) {
      return { data: asSignedIn(deps.clock, await deps.authority.narrow(caller, lessOf(body))) };
    },
  }),
  route({
    method: "DELETE",
    path: "/api/tokens",
    access: "any",
    tag: "auth",
    id: "revokeAllTokens",
    summary: "End every token of the account, this one too",
    data: z.object({ revoked: z.literal(true) }),
    async handle(exchange) {
      const { owner } = await signedInAccount(exchange);
      await exchange.deps.authority.revokeOwner(owner);
      return { data: { revoked: true } };
    },
  }),
  route({
    method: "DELETE",
    path: "/api/tokens/{id}",
    access: "any",
    tag: "auth",
    id: "revokeToken",
    summary: "End a token by its id",
    description: "Any token may end itself.",
    data: z.object({ revoked: z.literal(true) }),
    errors: [404],
    async handle(exchange) {
      const { deps, caller, params } = exchange;
      const { id = "" } = params;
      if (caller.tokenId !== id) await signedInAccount(exchange);
      if (!(await deps.authority.revokeToken(caller.principal.owner, id))) throw noSuch("token");
      return { data: { revoked: true } };
    },
  }),
];

export function noSuch(what: string): FormationError {
  return new FormationError("not_found", `There is no such ${what}.`, { field: "id" });
}
