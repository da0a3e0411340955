// An account's own keys and tokens. A stolen or narrowed token must not become a key: what lasts longer or
// can do more than the token in hand needs a sign-in with a key, for all the account's scopes. This folder
// knows the REST API: its routes, their schemas, its envelope, its event streams and its OpenAPI document.

import { type Bounds, SCOPES } from "@formation-mcp/auth";
import type { Account } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import { z } from "zod";
import { accountView, apiToken, key, noSuch, scope, tokenView } from "./account-views.ts";
import { type Exchange, type Route, route } from "./route.ts";
import { asSignedIn, scopeSet, signed, signedIn, signedMessage } from "./sign-in-schemas.ts";

/**
 * The id of a token of a sign-in with a key: not an OAuth client's, not an API token, not made from another
 * token.
 */
const SIGNED_IN = /^ses_[^~]*$/;

const scopes = z.array(scope).min(1).max(SCOPES.length);
const bounds = z
  .strictObject({
    instances: z.array(z.string().min(1).max(80)).min(1).max(100).optional().describe("Instances by name"),
    metadata: z.record(z.string().max(256), z.string().max(256)).optional(),
  })
  .describe("A fence: every condition given must hold");
const expires = z.int().min(1).max(315_360_000).optional().describe("From now on");

/**
 * The account of a caller who signed in with a key, for all the account's scopes.
 * @throws FormationError `forbidden`
 */
async function signedInAccount({ deps, caller }: Exchange): Promise<Account> {
  const { principal, clientId } = caller;
  const own = await deps.authority.account(principal.owner);
  const whole =
    own !== null && (principal.scopes.has("admin") || own.scopes.every((one) => principal.scopes.has(one)));
  if (
    whole &&
    principal.bounds === undefined &&
    clientId === "formation" &&
    SIGNED_IN.test(principal.tokenId)
  )
    return own;
  throw new FormationError("forbidden", "This token can't manage keys and tokens.", {
    remedy: "Sign in with a key at POST /api/auth/login, for all scopes, and use that token.",
  });
}

/** What a new token has less of than the caller. */
interface Restrictions {
  scopes?: z.output<typeof scopes> | undefined;
  bounds?: z.output<typeof bounds> | undefined;
  expires_in_seconds?: number | undefined;
}

function restrictionsOf({ scopes: list, bounds: conditions, expires_in_seconds }: Restrictions) {
  const set = scopeSet(list);
  return {
    ...(set === undefined ? {} : { scopes: set }),
    ...(conditions === undefined ? {} : { bounds: conditions as Bounds }),
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
        ...restrictionsOf(body),
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
      return { data: asSignedIn(deps.clock, await deps.authority.narrow(caller, restrictionsOf(body))) };
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
      if (caller.principal.tokenId !== id) await signedInAccount(exchange);
      if (!(await deps.authority.revokeToken(caller.principal.owner, id))) throw noSuch("token");
      return { data: { revoked: true } };
    },
  }),
];
