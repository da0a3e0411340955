// The OAuth server's door: which of its rooms a request belongs to, how often who may ask, and what of the request goes on.
// The secret is that oidc-provider serves only what is named here, in the form that this server wants it.

import type { IncomingMessage, ServerResponse } from "node:http";
import { FormationError } from "@formation-mcp/contract";
import { addressKey, plainAddress } from "../http/client-address.ts";
import type { GatewayDeps } from "../http/deps.ts";
import { BODY_FIELD, statusOf } from "../http/error-response.ts";
import { createRateLimits, DEFAULT_RATES, type Rates, retryAfter } from "../http/rate-limits.ts";
import { createInteractions } from "./interactions.ts";
import { createLoginCodes } from "./login-codes.ts";
import { createLoginCodesApi, isGuess } from "./login-codes-api.ts";
import { serverMetadata } from "./metadata.ts";
import {
  jsonObject,
  nothingHere,
  readBody,
  remake,
  SAFE_HEADERS,
  send,
  sendError,
  sendJson,
} from "./node-http.ts";
import { assetOf } from "./pages/assets.ts";
import { errorPage } from "./pages/pages.ts";
import { createOAuthAudit } from "./provider/audit.ts";
import { normalizeClient, RedirectError } from "./provider/clients.ts";
import { createProviders } from "./provider/provider.ts";
import { createSafeFetch, type SafeFetchOptions, withFailureMemory } from "./provider/safe-fetch.ts";
import { authorizeQuery, formOf, tokenBody } from "./request-rewriting.ts";
import { deriveSecrets } from "./secrets.ts";
import { createSignIn } from "./sign-in.ts";

export interface OAuthServerDeps
  extends Pick<
    GatewayDeps,
    "authority" | "audit" | "documents" | "counters" | "clock" | "logger" | "random"
  > {
  /** At least 32 bytes, the same for all processes of a server; cookies, form tokens and codes are made from it. */
  secret: Uint8Array;
  /** Requests a minute; as for the rest of the HTTP door. */
  rates?: Partial<Rates>;
  /** Where clients' metadata documents may come from beside the public internet. */
  outside?: SafeFetchOptions;
}

/** The OAuth 2.1 authorization server of one process. Everything it knows is in documents. */
export interface OAuth {
  /**
   * Serves a request if its path is one of `/oauth/…`, `/auth/…` or the metadata's; else returns false and touches nothing.
   * It never rejects.
   * @param address the client's address, as a trusted proxy says it; default: the socket's.
   */
  handle(request: IncomingMessage, response: ServerResponse, address?: string): Promise<boolean>;
}

interface Request {
  method: string;
  path: string;
  query: string;
  original: IncomingMessage;
  response: ServerResponse;
  address: string;
  body: Buffer;
}

const URL_LENGTH = 8 * 1024;
const REGISTRATION_BYTES = 16 * 1024;
const METADATA: readonly string[] = [
  "/.well-known/oauth-authorization-server",
  "/.well-known/openid-configuration",
];

/**
 * Whether a path is the OAuth server's: its endpoints, its pages, its metadata.
 * @param target a path, with or without a query.
 */
export function isOAuthPath(target: string): boolean {
  const [path = ""] = target.split("?");
  return METADATA.includes(path) || /^\/(oauth|auth)(\/|$)/.test(path);
}

/** @throws FormationError `invalid` if the secret is too short. */
export function createOAuthServer(deps: OAuthServerDeps): OAuth {
  const { authority, documents, counters, clock, logger, random } = deps;
  if (deps.secret.length < 32) {
    throw new FormationError("invalid", "The OAuth server's secret has fewer than 32 bytes.", {
      field: "secret",
    });
  }
  const origin = new URL(authority.issuer);
  const secrets = deriveSecrets(deps.secret);
  const rates = { ...DEFAULT_RATES, ...deps.rates };
  const limits = createRateLimits(counters, rates, clock);
  // As many an hour as sign-ins a minute.
  const registrations = rates.signIn;
  const codes = createLoginCodes({ documents, clock, random, secrets });
  const signIn = createSignIn(authority, secrets);
  const journal = createOAuthAudit(deps);
  const interactions = createInteractions({ authority, clock, secrets, codes, signIn, journal });
  const loginCodesApi = createLoginCodesApi({ issuer: authority.issuer, clock, codes, signIn });
  const fetch = withFailureMemory(createSafeFetch(deps.outside), clock);
  const { cookieKeys } = secrets;
  const newest = createProviders({ authority, documents, clock, logger, cookieKeys, fetch, journal });
  const document = JSON.stringify(serverMetadata(authority.issuer));

  async function forward(
    asked: Request,
    changes: Partial<{ url: string; body: Buffer }> = {},
  ): Promise<void> {
    const provider = await newest();
    const made = remade(asked, changes);
    await provider.callback()(made, asked.response);
  }

  function remade(
    { original, path, query, body, address }: Request,
    changes: Partial<{ url: string; body: Buffer }> = {},
  ) {
    return remake(original, { origin, address, url: `${path}${query}`, body, ...changes });
  }

  async function oauth(asked: Request): Promise<void> {
    const { path, method, response } = asked;
    if (path === "/oauth/jwks" && isRead(method)) {
      sendPublic(response, JSON.stringify(await authority.jwks()), "application/jwk-set+json; charset=utf-8");
    } else if (path === "/oauth/authorize" && isRead(method)) {
      // It may make this server read a document of somebody's choice.
      await limits.take("signIn", addressKey(asked.address));
      await forward(asked, { url: `${path}?${authorizeQuery(asked.query)}` });
    } else if (/^\/oauth\/authorize\/[\w-]{10,64}$/.test(path) && isRead(method)) {
      await forward(asked);
    } else if (path === "/oauth/register" && method === "POST") {
      await register(asked);
    } else if (path === "/oauth/token" && method === "POST") {
      await forward(asked, { body: tokenBody(asked.original, asked.body) });
    } else if (path === "/oauth/revoke" && method === "POST") {
      await revoke(asked);
    } else if (["/oauth/token", "/oauth/revoke"].includes(path) && method === "OPTIONS") {
      await forward(asked);
    } else {
      throw nothingHere();
    }
  }

  /** What is registered is stored, and nobody had to prove anything: little of it, and not often. */
  async function register(asked: Request): Promise<void> {
    const { original, response, address } = asked;
    let stored: Buffer;
    try {
      const { client_id: _, ...client } = normalizeClient(jsonObject(original, asked.body));
      stored = Buffer.from(JSON.stringify(client));
    } catch (error) {
      if (!(error instanceof RedirectError)) throw error;
      return sendJson(response, 400, { error: "invalid_redirect_uri", error_description: error.message });
    }
    if (stored.length > REGISTRATION_BYTES) {
      throw new FormationError("limit", "A registration has at most 16 KiB.", { field: BODY_FIELD });
    }
    if (registrations > 0) {
      const key = `oauth:register:${addressKey(address)}`;
      const hour = { key, limit: registrations, windowMs: 3_600_000, amount: 1 };
      const { granted, resets_at } = await counters.spend(hour);
      if (granted === 0) {
        response.setHeader("retry-after", String(Math.ceil((resets_at - clock.now()) / 1000)));
        throw new FormationError("limit", "Too many clients were registered from your address this hour.");
      }
    }
    await forward(asked, { body: stored });
  }

  /** A token that carries its own meaning is the authority's to revoke: who has it may end it (RFC 7009 §2.1). */
  async function revoke(asked: Request): Promise<void> {
    const token = formOf(asked.original, asked.body)?.get("token") ?? "";
    if (!/^[\w-]+\.[\w-]+\.[\w-]*$/.test(token)) return await forward(asked);
    const ended = await authority.revokeBearer(token).catch((error: unknown) => {
      // A token that is none is as good as revoked (RFC 7009 §2.2).
      if (FormationError.from(error).retryable) throw error;
      return null;
    });
    if (ended) {
      const { owner, id } = ended;
      const { path, address } = asked;
      await journal.tell({ action: `POST ${path}`, owner, credential: id, target: null, address });
    }
    send(asked.response, 200, "", {});
  }

  async function pages(asked: Request): Promise<void> {
    const [, , room = "", id = "", below, ...rest] = asked.path.split("/");
    if (rest.length > 0) throw nothingHere();
    if (room === "assets" && below === undefined && isRead(asked.method))
      return sendAsset(asked.response, id);
    if (room === "codes") return await atCode(asked, decoded(id), below);
    if (!["GET", "HEAD", "POST"].includes(asked.method)) throw nothingHere();
    const visit = {
      provider: await newest(),
      request: remade(asked),
      response: asked.response,
      body: asked.body,
      address: asked.address,
    };
    if (room === "login") await interactions.login(visit, id, below);
    else if (room === "consent" && below === undefined) await interactions.consent(visit, id);
    else throw nothingHere();
  }

  /** Whoever guesses codes is slowed down by address. */
  async function atCode(asked: Request, code: string, below: string | undefined): Promise<void> {
    const { original, response, body, address } = asked;
    // A right code is answered whatever was tried before: what slows a guesser down is how often anybody may ask. Posts
    // are counted before.
    if (isRead(asked.method)) await limits.take("signIn", addressKey(address));
    try {
      await loginCodesApi({ provider: await newest(), original, response, body, code, below });
    } catch (error) {
      if (isGuess(error)) await limits.take("failure", addressKey(address));
      throw error;
    }
  }

  async function serve(asked: Request): Promise<void> {
    const { path, method, original, response, address } = asked;
    for (const [name, value] of Object.entries(SAFE_HEADERS)) response.setHeader(name, value);
    response.removeHeader("cross-origin-opener-policy");
    if (`${path}${asked.query}`.length > URL_LENGTH)
      throw new FormationError("invalid", "The address is too long.");
    await limits.take("address", addressKey(address));
    if (method === "POST") {
      await limits.take("signIn", addressKey(address));
      asked.body = await readBody(original);
    }
    if (METADATA.includes(path)) {
      if (!isRead(method)) throw nothingHere();
      sendPublic(response, document, "application/json; charset=utf-8");
    } else if (path.startsWith("/oauth")) {
      await oauth(asked);
    } else {
      await pages(asked);
    }
  }

  return {
    async handle(original, response, address = plainAddress(original.socket.remoteAddress)) {
      const [path = "", ...rest] = (original.url ?? "").split("?");
      if (!isOAuthPath(path)) return false;
      const method = original.method ?? "GET";
      const query = rest.length > 0 ? `?${rest.join("?")}` : "";
      const asked = { method, path, query, original, response, address, body: Buffer.alloc(0) };
      try {
        await serve(asked);
      } catch (error) {
        await refuse(asked, error);
      }
      return true;
    },
  };

  async function refuse(
    { method, path, original, response, address }: Request,
    thrown: unknown,
  ): Promise<void> {
    // Who hung up in the middle of a request is told nothing.
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
    // A body that was not read to its end would be taken for the next request.
    if (!original.complete) response.setHeader("connection", "close");
    if (["unauthenticated", "forbidden"].includes(error.code)) {
      await journal.refuse(path, method, error.code, address);
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
}

/** What anybody may read from anywhere. */
function sendPublic(response: ServerResponse, body: string, type: string): void {
  send(response, 200, body, {
    "content-type": type,
    "cache-control": "public, max-age=60",
    "access-control-allow-origin": "*",
  });
}

function sendAsset(response: ServerResponse, name: string): void {
  const asset = assetOf(name);
  if (!asset) throw nothingHere();
  send(response, 200, asset.text, {
    "content-type": asset.type,
    "cache-control": "public, max-age=31536000, immutable",
  });
}

/** A part of a path; what is no encoding of anything is nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return "";
  }
}

function isRead(method: string): boolean {
  return method === "GET" || method === "HEAD";
}
