// oidc-provider as this server configures it: what is on, for how long what lives, what a token says. The secret is the
// library; nothing outside this folder knows that there is one.

import type { EventEmitter } from "node:events";
import type { Scope } from "@formation-mcp/auth";
import type { Authority } from "@formation-mcp/auth/authority";
import { type Clock, type Documents, LIMITS, type Logger } from "@formation-mcp/contract";
import { type Configuration, errors, Provider } from "oidc-provider";
import { errorPage } from "../pages/pages.ts";
import { createAdapter, keepClient } from "./adapter.ts";
import type { OAuthAudit } from "./audit.ts";
import { registerChallengeGrant } from "./challenge-grant.ts";
import { agentClient, normalizeClientDocument } from "./clients.ts";
import { createInteractionPolicy } from "./interaction-policy.ts";
import type { Fetch } from "./safe-fetch.ts";
import { ALGORITHM, heldScopes, resourceServer, tokenConfiguration } from "./tokens.ts";

export interface ProviderOptions {
  authority: Authority;
  documents: Documents;
  clock: Clock;
  logger: Logger;
  cookieKeys: readonly string[];
  fetch: Fetch;
  journal: OAuthAudit;
}

const DAY_SECONDS = 86_400;
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

function createProvider(options: ProviderOptions, keys: readonly object[]): Provider {
  const { authority, clock, documents, logger, journal } = options;
  const { audience, issuer } = authority;
  const signing = keys.map((key) => ({ ...key, use: "sig", alg: ALGORITHM }));
  const kid = (signing[0] as { kid?: string } | undefined)?.kid;
  const resource = (scopes: readonly Scope[]) => resourceServer(audience, kid, scopes);
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
          return resource(await heldScopes(ctx, authority, client.clientId));
        },
      },
    },
    clientBasedCORS: (_ctx, origin, client) =>
      client.clientAuthMethod === "none" &&
      (client.redirectUris ?? []).some((uri) => URL.parse(uri)?.origin === origin && origin !== "null"),
    ...tokenConfiguration(authority, journal, clock),
    async assertJwtClientAuthClaimsAndHeader(_ctx, claims) {
      const until = Number(claims["exp"]);
      if (!Number.isSafeInteger(until) || until > clock.now() / 1000 + ASSERTION_SECONDS) {
        throw new errors.InvalidClientAuth("the assertion must expire within ten minutes");
      }
    },
    interactions: {
      policy: createInteractionPolicy(audience),
      url: async (_ctx, interaction) => `/auth/${interaction.prompt.name}/${interaction.uid}`,
    },
    async fetch(input, init) {
      const url = input instanceof Request ? input.url : String(input);
      return normalizeClientDocument(url, await options.fetch(url, init));
    },
    renderError: async (ctx, out) => {
      const page = errorPage(out.error, out.error_description);
      for (const [name, value] of Object.entries(page.headers)) ctx.set(name, value);
      ctx.body = page.body;
    },
  };
  const provider = new Provider(issuer, configuration);
  provider.proxy = true;
  registerChallengeGrant(provider, authority, resource);
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
  provider.on("grant.error", (ctx, error) => {
    if (error.error !== "invalid_grant" && error.error !== "invalid_client") return;
    journal.refuse(ctx.path, ctx.method, "unauthenticated", ctx.ip).catch(() => undefined);
  });
  provider.on("grant.revoked", (ctx, grantId) => {
    const { RefreshToken, AccessToken, AuthorizationCode } = ctx.oidc.entities;
    const { accountId: owner, clientId = null } = RefreshToken ?? AuthorizationCode ?? AccessToken ?? {};
    if (!owner) return;
    const action = `POST ${ctx.path} (grant ended)`;
    journal
      .tell({ action, owner, credential: grantId, target: clientId, address: ctx.ip })
      .catch((error: Error) =>
        logger.log("error", "The end of a grant could not be stored in the audit log.", {
          error: error.name,
        }),
      );
  });
  provider.on("grant.success", (ctx) => {
    const id = ctx.oidc.client?.clientId;
    if (id) keepClient({ documents, clock }, id).catch(() => undefined);
  });
  return provider;
}
