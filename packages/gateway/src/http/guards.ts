// The guards that need no token, in their order: the Host header, the Origin header, the rate limit of the
// client's address.

import { FormationError } from "@formation-mcp/contract";
import { tooManyRequests } from "./bearer-auth.ts";
import { addressKey } from "./client-address.ts";
import type { GatewayDeps } from "./deps.ts";
import { errorResponse } from "./error-response.ts";
import { recordRefusal } from "./refusals.ts";
import type { RequestContext } from "./request-context.ts";
import { preflightResponse } from "./response-headers.ts";

/** Paths that make tokens, or where a secret could be guessed. */
const SIGN_IN = /^\/api\/auth\/(?!validate$)/;
/** Public metadata: any web page may read it, so its origin does not matter. */
const PUBLIC_METADATA = /^\/(?:\.well-known\/|oauth\/jwks$)/;

/** All guards that need no token. Returns the response to answer with, or null to go on. */
export async function applyGuards(
  deps: GatewayDeps,
  context: RequestContext,
  method: string,
  path: string,
): Promise<Response | null> {
  // Health probes call the server by an address of its network; the answer holds nothing that a web page
  // could use.
  if (path === "/health/live" || path === "/health/ready") return null;
  const answer = await checkHostAndOrigin(deps, context, method, path);
  if (answer) return answer;
  const { address } = context.verdict;
  try {
    await deps.limits?.take("address", addressKey(address));
    if (SIGN_IN.test(path)) await deps.limits?.take("signIn", addressKey(address));
  } catch (thrown) {
    return tooManyRequests(
      deps,
      { action: refusedAction(method), address, traceId: context.traceId },
      thrown,
    );
  }
  return null;
}

/**
 * The guards against other people's web pages: the Host and the Origin header. Also answers CORS preflight
 * requests. Returns the response to answer with, or null to go on.
 */
export async function checkHostAndOrigin(
  deps: GatewayDeps,
  context: RequestContext,
  method: string,
  path: string,
): Promise<Response | null> {
  const { address, hostIsAddress, refused, corsOrigin } = context.verdict;
  const reads = method === "GET" || method === "HEAD";
  if (refused === "origin" && reads && PUBLIC_METADATA.test(path)) return null;
  // A metrics scraper calls the server by its address.
  if (refused === "host" && hostIsAddress && method === "GET" && path === "/metrics") return null;
  if (refused !== null) {
    const request = { action: refusedAction(method), address, traceId: context.traceId };
    await recordRefusal(deps, { ...request, outcome: "forbidden" });
    return errorResponse(REFUSALS[refused]());
  }
  return method === "OPTIONS" && corsOrigin !== null ? preflightResponse(corsOrigin) : null;
}

function refusedAction(method: string): string {
  return `${/^[A-Z]{1,10}$/.test(method) ? method : "OTHER"} (refused)`;
}

const REFUSALS = {
  host: () =>
    new FormationError("forbidden", "This server does not answer to that host name.", {
      remedy:
        "Use its public URL; the operator sets it with FORMATION_PUBLIC_URL and FORMATION_ALLOWED_HOSTS.",
    }),
  origin: () =>
    new FormationError("forbidden", "Pages of that origin may not ask this server.", {
      remedy: "The operator can list the origin in FORMATION_CORS_ORIGINS.",
    }),
};
