// The guards that need no token, in their order: the host that was meant, the origin that asks, how often an address may.

import { FormationError } from "@formation-mcp/contract";
import { tooOften } from "./bearer-auth.ts";
import { addressKey } from "./client-address.ts";
import type { GatewayDeps } from "./deps.ts";
import { fail } from "./error-response.ts";
import { recordRefusal } from "./refusals.ts";
import type { Visit } from "./request-context.ts";
import { preflight } from "./request-policy.ts";

/** What makes tokens, and what could be tried until it fits. */
const SIGN_IN = /^\/api\/auth\/(?!validate$)/;

/** The guards that need no token: host, origin, how often an address may ask. The refusal, or null. */
export async function guard(
  deps: GatewayDeps,
  visit: Visit,
  method: string,
  path: string,
): Promise<Response | null> {
  // Who asks whether the server lives may call it by an address of its network; nothing is told that a page could use.
  if (path === "/health/live" || path === "/health/ready") return null;
  const turned = await turnAway(deps, visit, method, path);
  if (turned) return turned;
  const { address } = visit.arrival;
  try {
    await deps.limits?.take("address", addressKey(address));
    if (SIGN_IN.test(path)) await deps.limits?.take("signIn", addressKey(address));
  } catch (thrown) {
    return tooOften(deps, { action: refusedAction(method), address, traceId: visit.traceId }, thrown);
  }
  return null;
}

/** The guards against other people's pages: the host that was meant, and the origin that asks. */
export async function turnAway(
  deps: GatewayDeps,
  visit: Visit,
  method: string,
  path: string,
): Promise<Response | null> {
  const { address, byAddress, refused, readableBy } = visit.arrival;
  // What says who this server is anybody may read from anywhere.
  if (refused === "origin" && (method === "GET" || method === "HEAD") && PUBLIC.test(path)) return null;
  // Who may read the metrics finds the server by its address.
  if (refused === "host" && byAddress && method === "GET" && path === "/metrics") return null;
  if (refused !== null) {
    const from = { action: refusedAction(method), address, traceId: visit.traceId };
    await recordRefusal(deps, { ...from, outcome: "forbidden" });
    return fail(REFUSALS[refused]());
  }
  return method === "OPTIONS" && readableBy !== null ? preflight(readableBy) : null;
}

const PUBLIC = /^\/(?:\.well-known\/|oauth\/jwks$)/;

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
