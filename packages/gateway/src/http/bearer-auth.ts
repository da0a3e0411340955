// Bearer authentication (RFC 6750): the token in the Authorization header decides who calls; nothing else
// does. It also applies the account's rate limit. Handlers behind it read the caller with `c.get("caller")`.

import type { Authenticated } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import type { Context, MiddlewareHandler } from "hono";
import { addressKey } from "./client-address.ts";
import type { Env, GatewayDeps } from "./deps.ts";
import { errorResponse } from "./error-response.ts";
import { retryAfter } from "./rate-limits.ts";
import { actionOf, type Refusal, recordRefusal } from "./refusals.ts";
import { BASIC_SCOPES, type BearerChallenge, initialScopes, wwwAuthenticate } from "./www-authenticate.ts";

/** RFC 6750 §2.1: `b64token`. A token is never read from a query or a body. */
const BEARER = /^Bearer +([A-Za-z0-9\-._~+/]{1,8192}=*)$/i;

/**
 * Middleware that sets `caller` for a request with a valid token within its rate limit. Otherwise it answers
 * 401 with a challenge, 403, 429 with Retry-After, or 503. A refusal is in the audit log before the answer
 * goes out.
 */
export function bearerAuth(deps: GatewayDeps): MiddlewareHandler<Env> {
  return async (c, next) => {
    const refused = await authenticateRequest(deps, c);
    if (refused) return refused;
    await next();
  };
}

/**
 * Sets `caller` and returns null, or returns the response to answer with.
 * @throws FormationError `unavailable` or `internal`, as the authority throws them.
 */
export async function authenticateRequest(deps: GatewayDeps, c: Context<Env>): Promise<Response | null> {
  const header = c.req.header("authorization");
  let caller: Authenticated;
  try {
    caller = await authenticate(deps, header);
  } catch (thrown) {
    const error = FormationError.from(thrown);
    if (error.code !== "unauthenticated" && error.code !== "forbidden") throw error;
    return refuseToken(deps, c, error, header !== undefined);
  }
  try {
    await deps.limits?.take("owner", caller.principal.owner);
  } catch (thrown) {
    const { owner, tokenId: credential } = caller.principal;
    return tooManyRequests(deps, { ...auditFields(c), owner, credential }, thrown);
  }
  c.set("caller", caller);
  return null;
}

function authenticate(deps: GatewayDeps, header: string | undefined): Promise<Authenticated> {
  const token = header === undefined ? undefined : BEARER.exec(header)?.[1];
  if (token === undefined) {
    const message =
      header === undefined ? "This needs a token." : "The Authorization header holds no bearer token.";
    throw new FormationError("unauthenticated", message, {
      remedy: "Sign in, and send the token as `Authorization: Bearer …`.",
    });
  }
  return deps.authority.authenticate(token);
}

async function refuseToken(
  deps: GatewayDeps,
  c: Context<Env>,
  error: FormationError,
  tokenSent: boolean,
): Promise<Response> {
  try {
    await deps.limits?.take("failure", addressKey(c.get("address")));
  } catch (thrown) {
    return tooManyRequests(deps, auditFields(c), thrown);
  }
  await recordRefusal(deps, { ...auditFields(c), outcome: error.code });
  const challenge: BearerChallenge = {
    ...(tokenSent ? { error: "invalid_token", description: error.message } : {}),
    scopes: c.req.path === "/mcp" ? initialScopes(c.req.header("mcp-protocol-version")) : BASIC_SCOPES,
  };
  return errorResponse(error, { "www-authenticate": wwwAuthenticate(deps.publicUrl, challenge) });
}

/**
 * The response for what {@link RateLimits.take} threw: 429 with Retry-After, or the response of another
 * error. The first refusal of a window goes to the audit log.
 */
export async function tooManyRequests(
  deps: GatewayDeps,
  request: Omit<Refusal, "outcome">,
  thrown: unknown,
): Promise<Response> {
  const wait = retryAfter(thrown);
  if (!wait) return errorResponse(thrown);
  if (wait.first) await recordRefusal(deps, { ...request, outcome: "limit" });
  return errorResponse(thrown, { "retry-after": String(wait.seconds) });
}

/**
 * A 403 whose challenge names the scopes to come back with: those that the token has, and the one that it
 * lacks.
 * @param action for the audit log: a tool's name. Default: the route.
 */
export async function refuseScope(
  deps: GatewayDeps,
  c: Context<Env>,
  scope: string,
  action?: string,
): Promise<Response> {
  const caller = c.get("caller");
  const { owner, scopes, tokenId: credential } = caller.principal;
  const request = { ...auditFields(c), ...(action ? { action } : {}) };
  await recordRefusal(deps, { ...request, outcome: "forbidden", owner, credential });
  const error = new FormationError("forbidden", `This needs the scope ${scope}.`, {
    remedy: `Ask for a token with ${scope}.`,
  });
  const needed: BearerChallenge = {
    error: "insufficient_scope",
    description: error.message,
    scopes: [...new Set([...scopes, scope])],
  };
  return errorResponse(error, { "www-authenticate": wwwAuthenticate(deps.publicUrl, needed) });
}

/** The fields by which the audit log identifies a request. */
function auditFields(c: Context<Env>): Omit<Refusal, "outcome"> {
  return { action: actionOf(c), address: c.get("address"), traceId: c.get("traceId") };
}
