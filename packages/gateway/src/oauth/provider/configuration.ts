// The configuration of oidc-provider: which grants and features are on, how long each thing lives, what the
// cookies are.

import type { Scope } from "@formation-mcp/auth";
import type { Authority } from "@formation-mcp/auth/authority";
import { type Clock, type Documents, LIMITS } from "@formation-mcp/contract";
import { type Configuration, errors, type ResourceServer } from "oidc-provider";
import { createAdapter } from "./adapter.ts";
import type { OAuthAudit } from "./audit.ts";
import { agentClient, normalizeClientDocument } from "./clients.ts";
import { createInteractionPolicy } from "./interaction-policy.ts";
import type { Fetch } from "./safe-fetch.ts";
import { ALGORITHM, heldScopes, tokenConfiguration } from "./tokens.ts";

export interface ConfigurationDeps {
  authority: Authority;
  documents: Documents;
  clock: Clock;
  cookieKeys: readonly string[];
  /** Fetches clients' metadata documents. */
  fetch: Fetch;
  audit: OAuthAudit;
  /** The page that a person sees when a request cannot go on. */
  errorPage: (
    code: string,
    description?: string,
  ) => {
    body: string;
    headers: Readonly<Record<string, string>>;
  };
}

const DAY_SECONDS = 86_400;
const ACCESS_SECONDS = LIMITS.accessTokenMs / 1000;
/** The longest life of an agent's assertion; its id is remembered for as long. */
const ASSERTION_SECONDS = 600;

/** @param signingKeys private JWKs, the newest first. */
export function providerConfiguration(
  deps: ConfigurationDeps,
  signingKeys: readonly object[],
  resourceServer: (scopes: readonly Scope[]) => ResourceServer,
): Configuration {
  const { authority, clock, documents, audit } = deps;
  return {
    adapter: createAdapter({
      documents,
      clock,
      knownClient: (id) => agentClient(authority, id),
      // The access tokens of a grant carry its id, so that they end with it.
      grantEnded: (owner, grantId) => authority.revokeToken(owner, grantId),
    }),
    jwks: { keys: [...signingKeys] },
    ...PROTOCOL,
    cookies: cookies(authority.issuer.startsWith("https:"), deps.cookieKeys),
    features: features(authority, resourceServer),
    clientBasedCORS: (_ctx, origin, client) =>
      client.clientAuthMethod === "none" &&
      (client.redirectUris ?? []).some((uri) => URL.parse(uri)?.origin === origin && origin !== "null"),
    ...tokenConfiguration(authority, audit, clock),
    async assertJwtClientAuthClaimsAndHeader(_ctx, claims) {
      const until = Number(claims["exp"]);
      if (!Number.isSafeInteger(until) || until > clock.now() / 1000 + ASSERTION_SECONDS) {
        throw new errors.InvalidClientAuth("the assertion must expire within ten minutes");
      }
    },
    interactions: {
      policy: createInteractionPolicy(authority.audience),
      url: async (_ctx, interaction) => `/auth/${interaction.prompt.name}/${interaction.uid}`,
    },
    async fetch(input, init) {
      const url = input instanceof Request ? input.url : String(input);
      return normalizeClientDocument(url, await deps.fetch(url, init));
    },
    renderError: async (ctx, out) => {
      const page = deps.errorPage(out.error, out.error_description);
      for (const [name, value] of Object.entries(page.headers)) ctx.set(name, value);
      ctx.body = page.body;
    },
  };
}

/** The part that depends on nothing: endpoints, algorithms, lifetimes. */
const PROTOCOL = {
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
} satisfies Configuration;

/** @param secure whether the server's public URL is https. */
function cookies(secure: boolean, keys: readonly string[]): NonNullable<Configuration["cookies"]> {
  return {
    // `__Host-` prevents that other subdomains set the cookie; browsers accept the prefix only over TLS.
    names: {
      session: secure ? "__Host-formation" : "formation",
      interaction: secure ? "__Secure-formation-interaction" : "formation-interaction",
      resume: secure ? "__Secure-formation-resume" : "formation-resume",
    },
    keys: [...keys],
    long: { httpOnly: true, sameSite: "lax", secure, signed: true, path: "/" },
    short: { httpOnly: true, sameSite: "lax", secure, signed: true },
  };
}

function features(
  authority: Authority,
  resourceServer: (scopes: readonly Scope[]) => ResourceServer,
): NonNullable<Configuration["features"]> {
  const { audience } = authority;
  return {
    devInteractions: { enabled: false },
    // No resource checks the key that a token is bound to, so DPoP would only look safer.
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
  };
}
