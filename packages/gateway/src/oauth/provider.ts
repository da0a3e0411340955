// oidc-provider as this server configures it: what is on, for how long what lives, what a token says. The secret is the
// library; nothing outside this folder knows that there is one.

import type { EventEmitter } from "node:events";
import { SCOPES, type Scope } from "@formation-mcp/auth";
import type { Account, Authority } from "@formation-mcp/auth/authority";
import { type Clock, type Documents, LIMITS, type Logger } from "@formation-mcp/contract";
import {
  type AccessToken,
  type ClientCredentials,
  type Configuration,
  errors,
  type KoaContextWithOIDC,
  Provider,
  type ResourceServer,
} from "oidc-provider";
import { createAdapter, keepClient } from "./adapter.ts";
import { agentClient, normalizeClient } from "./clients.ts";
import type { Fetch } from "./fetch.ts";
import { registerChallengeGrant, SIGNER } from "./grants.ts";
import { errorPage } from "./pages.ts";
import { accountScopes, createPolicy } from "./policy.ts";
import { scopesOf } from "./words.ts";

export interface ProviderOptions {
  authority: Authority;
  documents: Documents;
  clock: Clock;
  logger: Logger;
  cookieKeys: readonly string[];
  fetch: Fetch;
}

const DAY_SECONDS = 86_400;
const ALGORITHM = "EdDSA";
const ACCESS_SECONDS = LIMITS.accessTokenMs / 1000;
/** How long an assertion of an agent may be good for; its id is remembered that long. */
const ASSERTION_SECONDS = 600;

/** A function that returns the provider of the newest signing key; one is made again only after a rotation. */
export function createProviders(options: ProviderOptions): () => Promise<Provider> {
  let made: { version: number; provider: Provider } | undefined;
  return async () => {
    const { version, keys } = await options.authority.signingKeys();
    if (made?.version !== version) made = { version, provider: createProvider(options, keys) };
    return made.provider;
  };
}

/** When something of an account, or of one of its keys, was last taken back, in milliseconds; -1 if never. */
export function lastRevoked(account: Account, keyId: string | undefined): number {
  const key = account.keys.find(({ id }) => id === keyId);
  return Math.max(account.revoked_at ?? -1, key?.revoked_at ?? -1);
}

function createProvider(options: ProviderOptions, keys: readonly object[]): Provider {
  const { authority, clock, documents, logger } = options;
  const { audience, issuer } = authority;
  const signing = keys.map((key) => ({ ...key, use: "sig", alg: ALGORITHM }));
  const kid = (signing[0] as { kid?: string } | undefined)?.kid;
  const resourceServer = (scopes: readonly Scope[]): ResourceServer => ({
    audience,
    scope: scopes.join(" "),
    accessTokenFormat: "jwt",
    accessTokenTTL: ACCESS_SECONDS,
    jwt: { sign: { alg: ALGORITHM, ...(kid === undefined ? {} : { kid }) } },
  });
  const secure = issuer.startsWith("https:");
  const configuration: Configuration = {
    adapter: createAdapter({
      documents,
      clock,
      knownClient: (id) => agentClient(authority, id),
      // The access tokens of a grant carry its id: they end with it.
      grantEnded: (owner, grantId) => authority.revokeToken(owner, grantId),
    }),
    jwks: { keys: signing },
    scopes: [],
    responseTypes: ["code"],
    clientAuthMethods: ["none", "private_key_jwt"],
    clientDefaults: {
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
      token_endpoint_auth_method: "none",
      id_token_signed_response_alg: ALGORITHM,
    },
    enabledJWA: {
      clientAuthSigningAlgValues: ["EdDSA", "Ed25519", "ES256"],
      idTokenSigningAlgValues: [ALGORITHM],
    },
    routes: {
      authorization: "/oauth/authorize",
      jwks: "/oauth/jwks",
      registration: "/oauth/register",
      revocation: "/oauth/revoke",
      token: "/oauth/token",
      end_session: "/oauth/session/end",
    },
    cookies: {
      // `__Host-` keeps other subdomains from setting it; a browser takes it only over TLS.
      names: {
        session: secure ? "__Host-formation" : "formation",
        interaction: secure ? "__Secure-formation-interaction" : "formation-interaction",
        resume: secure ? "__Secure-formation-resume" : "formation-resume",
      },
      keys: [...options.cookieKeys],
      long: { httpOnly: true, sameSite: "lax", secure, signed: true, path: "/" },
      short: { httpOnly: true, sameSite: "lax", secure, signed: true },
    },
    pkce: { required: () => true },
    clockTolerance: LIMITS.clockSkewMs / 1000,
    allowOmittingSingleRegisteredRedirectUri: false,
    rotateRefreshToken: true,
    issueRefreshToken: async (_ctx, client) => client.grantTypeAllowed("refresh_token"),
    expiresWithSession: async () => false,
    ttl: {
      AccessToken: ACCESS_SECONDS,
      ClientCredentials: ACCESS_SECONDS,
      AuthorizationCode: 60,
      RefreshToken: LIMITS.refreshTokenMs / 1000,
      Grant: 180 * DAY_SECONDS,
      Interaction: 30 * 60,
      Session: 7 * DAY_SECONDS,
    },
    features: {
      devInteractions: { enabled: false },
      // A token bound to a key that nobody checks would only look safer.
      dPoP: { enabled: false },
      pushedAuthorizationRequests: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      userinfo: { enabled: false },
      clientCredentials: { enabled: true },
      revocation: {
        enabled: true,
        allowedPolicy: async (_ctx, client, token) => token.clientId === client.clientId,
      },
      registration: { enabled: true, issueRegistrationAccessToken: false },
      clientIdMetadataDocument: {
        enabled: true,
        ack: "draft-02",
        cacheDuration: { min: 60, max: DAY_SECONDS },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => audience,
        useGrantedResource: async () => true,
        async getResourceServerInfo(ctx, indicator, client) {
          if (indicator !== audience) throw new errors.InvalidTarget();
          return resourceServer(await heldScopes(ctx, authority, client.clientId));
        },
      },
    },
    clientBasedCORS: (_ctx, origin, client) =>
      client.clientAuthMethod === "none" &&
      (client.redirectUris ?? []).some((uri) => URL.parse(uri)?.origin === origin && origin !== "null"),
    async findAccount(ctx, sub, token) {
      const account = await authority.account(sub);
      const signed = signatureOf(token) ?? signatureOf(ctx.oidc.session);
      const key = account?.keys.find(({ id }) => id === signed?.key);
      if (!account || !key || !signed) return undefined;
      // What a revocation ended stays ended, whatever documents are left of it.
      if (signed.at <= lastRevoked(account, key.id)) return undefined;
      return { accountId: sub, claims: () => ({ sub }), scopes: scopesOf(account) };
    },
    async extraTokenClaims(ctx, token) {
      if (!token.scope) throw new errors.InvalidScope("the account has none of these scopes", "");
      const key = keyOf(ctx, token);
      const family = token.kind === "AccessToken" && token.grantId ? { family: token.grantId } : {};
      return { ...(key === undefined ? {} : { key }), ...family };
    },
    formats: {
      customizers: {
        async jwt(_ctx, token, { payload }) {
          if (!payload) return;
          const { sub, key, iat } = payload as { sub: string; key?: string; iat: number };
          const agent = token.kind === "ClientCredentials";
          const account = await (agent ? authority.accountOfKey(sub) : authority.account(sub));
          if (!account) throw new errors.InvalidGrant({ detail: "the key has no account" });
          // An agent is its key; the subject is whose key it is.
          payload["sub"] = account.owner;
          // What was revoked within this second must not void what is made after it.
          payload["iat"] = Math.max(iat, Math.floor(lastRevoked(account, key) / 1000) + 1);
        },
      },
    },
    async assertJwtClientAuthClaimsAndHeader(_ctx, claims) {
      const until = Number(claims["exp"]);
      if (!Number.isSafeInteger(until) || until > clock.now() / 1000 + ASSERTION_SECONDS) {
        throw new errors.InvalidClientAuth("the assertion must expire within ten minutes");
      }
    },
    interactions: {
      policy: createPolicy(audience),
      url: async (_ctx, interaction) => `/auth/${interaction.prompt.name}/${interaction.uid}`,
    },
    async fetch(input, init) {
      const url = input instanceof Request ? input.url : String(input);
      return tidied(url, await options.fetch(url, init));
    },
    renderError: async (ctx, out) => {
      const page = errorPage(out.error, out.error_description);
      for (const [name, value] of Object.entries(page.headers)) ctx.set(name, value);
      ctx.body = page.body;
    },
  };
  const provider = new Provider(issuer, configuration);
  provider.proxy = true;
  registerChallengeGrant(provider, authority, resourceServer);
  // Koa prints what nobody listens to.
  const emitter: EventEmitter = provider;
  emitter.on("error", (error: Error) => {
    logger.log("warn", "oauth: a request broke off", { error: error.name });
  });
  provider.on("server_error", (ctx, error) => {
    logger.log("error", "oauth: internal error", {
      path: ctx.path,
      error: error.name,
      message: error.message,
    });
  });
  provider.on("grant.success", (ctx) => {
    const id = ctx.oidc.client?.clientId;
    if (id) keepClient({ documents, clock }, id).catch(() => undefined);
  });
  return provider;
}

/** What the token of this request may hold at most: SCOPES while nobody signed in yet, because the policy asks later. */
async function heldScopes(
  ctx: KoaContextWithOIDC,
  authority: Authority,
  clientId: string,
): Promise<readonly Scope[]> {
  if (ctx.oidc.route === "authorization" || ctx.oidc.route === "resume") return SCOPES;
  if (ctx.oidc.account) return accountScopes(ctx.oidc.account);
  const account = await authority.accountOfKey(clientId);
  return account ? scopesOf(account) : [];
}

/** Which key signed in for a session, a code or a refresh token, and when (milliseconds). */
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

/** The key behind a token: the agent itself, who signed the challenge, or who signed in when the grant was made. */
function keyOf(ctx: KoaContextWithOIDC, token: AccessToken | ClientCredentials): string | undefined {
  if (token.kind === "ClientCredentials") return token.clientId;
  const { entities } = ctx.oidc;
  const direct = entities[SIGNER];
  return typeof direct === "string"
    ? direct
    : signatureOf(entities.RefreshToken ?? entities.AuthorizationCode)?.key;
}

/** A client's own document in the shape that registration has; what the provider must refuse it still sees. */
async function tidied(url: string, response: Response): Promise<Response> {
  if (response.status !== 200) return response;
  const text = await response.text();
  let body = text;
  try {
    const document: unknown = JSON.parse(text);
    if (typeof document === "object" && document !== null && "client_id" in document) {
      const given = document as Record<string, unknown>;
      const secret = ["client_secret", "client_secret_expires_at"].some((name) => name in given);
      const method = String(given["token_endpoint_auth_method"] ?? "none");
      if (given["client_id"] === url && !secret && ["none", "private_key_jwt"].includes(method)) {
        body = JSON.stringify(normalizeClient(given));
      }
    }
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  return new Response(body, { status: 200, headers: response.headers });
}
