// The bearer gate: who asks, by the token in the Authorization header and nothing else, and how often that account may ask.
// Everything behind it finds the caller with `c.get("caller")`.

import type { Authenticated } from "@formation-mcp/auth/authority";
import { FormationError } from "@formation-mcp/contract";
import type { Context, MiddlewareHandler } from "hono";
import { addressKey } from "./client-address.ts";
import type { Env, GatewayDeps } from "./deps.ts";
import { fail } from "./error-response.ts";
import { retryAfter } from "./rate-limits.ts";
import { actionOf, type Refusal, recordRefusal } from "./refusals.ts";
import { BASIC_SCOPES, type Challenge, challengeHeader, firstScopes } from "./www-authenticate.ts";

/** RFC 6750 §2.1: `b64token`. A token is never read from a query or a body. */
const BEARER = /^Bearer +([A-Za-z0-9\-._~+/]{1,8192}=*)$/i;

/**
 * Lets in who shows a valid token and has permits left; sets `caller`. Else it answers 401 with a challenge, 403, 429 with
 * Retry-After or 503, and the refusal is in the audit log before that.
 */
export function bearer(deps: GatewayDeps): MiddlewareHandler<Env> {
  return async (c, next) => {
    const refused = await identify(deps, c);
    if (refused) return refused;
    await next();
  };
}

/**
 * The bearer gate's check: sets `caller`, or returns the refusal to answer with.
 * @throws FormationError what the authority throws beside refusals: `unavailable`, `internal`.
 */
export async function identify(deps: GatewayDeps, c: Context<Env>): Promise<Response | null> {
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
    const { owner, credential } = caller.principal;
    return tooOften(deps, { ...origin(c), owner, credential }, thrown);
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
  shown: boolean,
): Promise<Response> {
  try {
    await deps.limits?.take("failure", addressKey(c.get("address")));
  } catch (thrown) {
    return tooOften(deps, origin(c), thrown);
  }
  await recordRefusal(deps, { ...origin(c), outcome: error.code });
  const said: Challenge = {
    ...(shown ? { error: "invalid_token", description: error.message } : {}),
    scopes: c.req.path === "/mcp" ? firstScopes(c.req.header("mcp-protocol-version")) : BASIC_SCOPES,
  };
  return fail(error, { "www-authenticate": challengeHeader(deps.publicUrl, said) });
}

/** Answers 429 with Retry-After; the first refusal of a window goes to the audit log. What else is thrown is its own answer. */
export async function tooOften(
  deps: GatewayDeps,
  where: Omit<Refusal, "outcome">,
  thrown: unknown,
): Promise<Response> {
  const wait = retryAfter(thrown);
  if (!wait) return fail(thrown);
  if (wait.first) await recordRefusal(deps, { ...where, outcome: "limit" });
  return fail(thrown, { "retry-after": String(wait.seconds) });
}

/** A 403 that tells a client which scopes to come back with: those it has and the one it lacks. */
export async function refuseScope(
  deps: GatewayDeps,
  c: Context<Env>,
  scope: string,
  action?: string,
): Promise<Response> {
  const caller = c.get("caller");
  const { owner, scopes, credential } = caller.principal;
  const from = { ...origin(c), ...(action ? { action } : {}) };
  await recordRefusal(deps, { ...from, outcome: "forbidden", owner, credential });
  const error = new FormationError("forbidden", `This needs the scope ${scope}.`, {
    remedy: `Ask for a token with ${scope}.`,
  });
  const needed: Challenge = {
    error: "insufficient_scope",
    description: error.message,
    scopes: [...new Set([...scopes, scope])],
  };
  return fail(error, { "www-authenticate": challengeHeader(deps.publicUrl, needed) });
}

/** Which request it is, as the audit log names it. */
function origin(c: Context<Env>): Omit<Refusal, "outcome"> {
  return { action: actionOf(c), address: c.get("address"), traceId: c.get("traceId") };
}
