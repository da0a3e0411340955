// The OAuth server: which part serves a request, how often an address may ask, and how an error is answered.
// oidc-provider serves only what is named here and in `endpoints.ts`, in the form that this server wants.

import type { IncomingMessage, ServerResponse } from "node:http";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { addressKey, plainAddress } from "../http/client-address.ts";
import type { GatewayDeps } from "../http/deps.ts";
import { statusOf } from "../http/error-response.ts";
import { createRateLimits, DEFAULT_RATES, type Rates, retryAfter } from "../http/rate-limits.ts";
import { OAUTH_HEADERS } from "../http/response-headers.ts";
import { createConsent } from "./consent.ts";
import { createEndpoints } from "./endpoints.ts";
import { createForwarding, isRead, type OAuthRequest } from "./forwarding.ts";
import { createLogin } from "./login.ts";
import { createLoginCodes } from "./login-codes.ts";
import { createLoginCodesApi } from "./login-codes-api.ts";
import { serverMetadata } from "./metadata.ts";
import { notFound, readBody, send, sendError, sendJson, sendPublic } from "./node-http.ts";
import { createPageRoutes } from "./page-routes.ts";
import { errorPage } from "./pages/pages.ts";
import { createOAuthAudit, type OAuthAudit } from "./provider/audit.ts";
import { createProviders } from "./provider/provider.ts";
import { createSafeFetch, type SafeFetchOptions, withFailureMemory } from "./provider/safe-fetch.ts";
import { createRegistration } from "./registration.ts";
import { deriveSecrets } from "./secrets.ts";
import { createSignIn } from "./sign-in.ts";

export interface OAuthServerDeps
  extends Pick<
    GatewayDeps,
    "authority" | "audit" | "documents" | "counters" | "clock" | "logger" | "random"
  > {
  /**
   * At least 32 bytes, the same for all processes of a server. Keys for cookies, forms and codes are derived
   * from it.
   */
  secret: Uint8Array;
  /** Requests per minute, as for the rest of the gateway. */
  rates?: Partial<Rates>;
  /** Where clients' metadata documents may come from beside the public internet. */
  outside?: SafeFetchOptions;
}

/** The OAuth 2.1 authorization server of one process. All its state is in documents. */
export interface OAuthServer {
  /**
   * Serves a request if {@link isOAuthPath} says that its path belongs here; otherwise returns false and
   * touches nothing. Never rejects.
   * @param address the client's address, as a trusted proxy reports it. Default: the socket's.
   */
  handle(request: IncomingMessage, response: ServerResponse, address?: string): Promise<boolean>;
}

type Serve = (request: OAuthRequest) => Promise<void>;

const MAX_URL_LENGTH = 8 * 1024;
const MIN_SECRET_BYTES = 32;
const METADATA_PATHS: readonly string[] = [
  "/.well-known/oauth-authorization-server",
  "/.well-known/openid-configuration",
];

/**
 * Whether a path belongs to the OAuth server: its endpoints, its pages, its metadata.
 * @param target a path, with or without a query.
 */
export function isOAuthPath(target: string): boolean {
  const [path = ""] = target.split("?");
  return METADATA_PATHS.includes(path) || /^\/(oauth|auth)(\/|$)/.test(path);
}

/** @throws FormationError `invalid` if the secret is too short. */
export function createOAuthServer(deps: OAuthServerDeps): OAuthServer {
  const { logger } = deps;
  if (deps.secret.length < MIN_SECRET_BYTES) {
    throw new FormationError("invalid", "The OAuth server's secret has fewer than 32 bytes.", {
      field: "secret",
    });
  }
  const audit = createOAuthAudit(deps);
  const serve = createRouter(deps, audit);
  return {
    async handle(original, response, address = plainAddress(original.socket.remoteAddress)) {
      const [path = "", ...rest] = (original.url ?? "").split("?");
      if (!isOAuthPath(path)) return false;
      const method = original.method ?? "GET";
      const query = rest.length > 0 ? `?${rest.join("?")}` : "";
      const request = { method, path, query, original, response, address, body: Buffer.alloc(0) };
      try {
        await serve(request);
      } catch (error) {
        await refuse({ logger, audit }, request, error);
      }
      return true;
    },
  };
}

/** Makes the parts, and serves each request with the one that its path belongs to. */
function createRouter(deps: OAuthServerDeps, audit: OAuthAudit): Serve {
  const { authority, documents, counters, clock, logger, random } = deps;
  const { issuer } = authority;
  const secrets = deriveSecrets(deps.secret);
  const rates = { ...DEFAULT_RATES, ...deps.rates };
  const limits = createRateLimits(counters, rates, clock);
  const { cookieKeys } = secrets;
  const fetch = withFailureMemory(createSafeFetch(deps.outside), clock);
  const providers = createProviders({
    authority,
    documents,
    clock,
    logger,
    cookieKeys,
    fetch,
    audit,
    errorPage,
  });
  const forwarding = createForwarding(issuer, providers);
  // As many registrations per hour as sign-ins per minute.
  const register = createRegistration({ counters, clock, forwarding, maxPerHour: rates.signIn });
  const endpoints = createEndpoints({ authority, limits, forwarding, audit, register });
  const codes = createLoginCodes({ documents, clock, random, secrets });
  const signIn = createSignIn(authority, secrets);
  const pages = createPageRoutes({
    limits,
    forwarding,
    login: createLogin({ authority, clock, secrets, codes, signIn, audit }),
    consent: createConsent({ authority, secrets, audit }),
    loginCodes: createLoginCodesApi({ issuer, clock, codes, signIn }),
  });
  const metadata = JSON.stringify(serverMetadata(issuer));

  return async (request) => {
    const { path, method, original, response, address } = request;
    for (const [name, value] of Object.entries(OAUTH_HEADERS)) response.setHeader(name, value);
    response.removeHeader("cross-origin-opener-policy");
    if (`${path}${request.query}`.length > MAX_URL_LENGTH)
      throw new FormationError("invalid", "The address is too long.");
    await limits.take("address", addressKey(address));
    if (method === "POST") {
      await limits.take("signIn", addressKey(address));
      request.body = await readBody(original);
    }
    if (METADATA_PATHS.includes(path)) {
      if (!isRead(method)) throw notFound();
      sendPublic(response, metadata, "application/json; charset=utf-8");
    } else if (path.startsWith("/oauth")) {
      await endpoints(request);
    } else {
      await pages(request);
    }
  };
}

/**
 * Answers an error: as a page below `/auth`, as an OAuth error (RFC 6749 §5.2) below `/oauth`, else as the
 * REST API does.
 */
async function refuse(
  { logger, audit }: { logger: Logger; audit: OAuthAudit },
  { method, path, original, response, address }: OAuthRequest,
  thrown: unknown,
): Promise<void> {
  // The client closed the connection in the middle of its request.
  if (original.destroyed && !original.complete) return void response.destroy();
  const error = FormationError.from(thrown);
  if (error.code === "internal") {
    logger.log("error", "oauth: internal error", { path: path.slice(0, 100), error: error.message });
  }
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const wait = retryAfter(thrown);
  if (wait) response.setHeader("retry-after", String(wait.seconds));
  // The unread rest of a body must not be parsed as the next request.
  if (!original.complete) response.setHeader("connection", "close");
  if (["unauthenticated", "forbidden"].includes(error.code)) {
    await audit.recordRefusal(path, method, error.code, address);
  }
  if (/^\/auth\/(login|consent)\/[^/]*$/.test(path)) {
    const page = errorPage(error.code, error.message, error.details.remedy);
    send(response, statusOf(error), page.body, page.headers);
  } else if (path.startsWith("/oauth/")) {
    const code = error.retryable || error.code === "limit" ? "temporarily_unavailable" : "invalid_request";
    sendJson(response, statusOf(error), { error: code, error_description: error.message });
  } else {
    sendError(response, error);
  }
}
