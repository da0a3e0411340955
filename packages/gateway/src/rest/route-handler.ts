// Serves one route: checks access, parses the input, calls the handler and writes the audit log. Every
// response has the agreed shape, errors included.

import { type Principal, requireScope, type Scope } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import type { AuditEntry } from "@formation-mcp/control";
import { LISTING } from "@formation-mcp/tools/listing";
import type { Context, Handler } from "hono";
import type { Env, GatewayDeps } from "../http/deps.ts";
import { recordRefusal } from "../http/refusals.ts";
import { errorEnvelope, successEnvelope } from "./envelope.ts";
import { parseInput, readJson } from "./request-body.ts";
import type { Exchange, Route } from "./route.ts";

const SCOPES = new Map(LISTING.map(({ name, scope }) => [name, scope]));

/** What is known about a request while its route serves it. */
interface RouteState {
  note: Exchange["note"];
  /** Whether control was called; it writes the audit log itself. */
  byControl: boolean;
  /** The scopes that a token needs, if this one lacks a scope. */
  neededScopes: string[] | undefined;
}

/** Hono's handler of a route. Bearer authentication comes before it, unless the route is public. */
export function createRouteHandler(deps: GatewayDeps, route: Route): Handler<Env> {
  return async (c) => {
    const state: RouteState = { note: {}, byControl: false, neededScopes: undefined };
    let response: Response;
    try {
      response = await answer(deps, route, c, state);
    } catch (thrown) {
      return refuse(deps, route, c, state, FormationError.from(thrown));
    }
    try {
      await audit(deps, route, c, state, "ok");
      return response;
    } catch (unrecorded) {
      await response.body?.cancel();
      return errorEnvelope(deps, isWrite(route) ? doneButNotAudited(unrecorded) : unrecorded);
    }
  };
}

async function answer(
  deps: GatewayDeps,
  route: Route,
  c: Context<Env>,
  state: RouteState,
): Promise<Response> {
  if (route.access !== "public") checkAccess(c.get("caller").principal, route, state);
  const { query, body } = route;
  const params = pathParameters(c);
  if (params["id"] !== undefined) state.note.target = params["id"];
  const exchange: Exchange = {
    deps,
    c,
    params,
    query: query === undefined ? undefined : parseInput(query, c.req.query()),
    body: body === undefined || body === "bytes" ? undefined : parseInput(body, await readJson(c.req.raw)),
    get caller() {
      const caller = c.get("caller");
      if (caller !== undefined && route.access !== "public") return caller;
      throw new FormationError("unauthenticated", "This needs a token.");
    },
    tool: toolCaller(deps, c, state),
    note: state.note,
  };
  if (isWrite(route)) await audit(deps, route, c, state, "begun");
  const reply = await route.handle(exchange);
  return reply instanceof Response ? reply : successEnvelope(reply.data, reply.message ?? null);
}

/** Calls a tool as the caller, or as the principal given; the caller is then the audit log's actor. */
function toolCaller(deps: GatewayDeps, c: Context<Env>, state: RouteState): Exchange["tool"] {
  return async (name, input, { as, ...hooks } = {}) => {
    const caller = c.get("caller");
    const principal = as ?? caller.principal;
    const scope = SCOPES.get(name);
    if (scope !== undefined) noteMissingScope(principal, scope, state);
    state.byControl = true;
    return deps.control.call(principal, name, input, {
      signal: c.req.raw.signal,
      address: c.get("address"),
      traceId: c.get("traceId"),
      ...hooks,
      ...(principal.owner === caller.principal.owner ? {} : { actor: caller.principal.owner }),
    });
  };
}

async function refuse(
  deps: GatewayDeps,
  route: Route,
  c: Context<Env>,
  state: RouteState,
  error: FormationError,
): Promise<Response> {
  if (error.code === "internal") {
    deps.logger.log("error", "A request failed inside the server.", {
      route: `${route.method} ${route.path}`,
      trace_id: c.get("traceId") ?? null,
      cause: String(error.cause),
    });
  }
  try {
    await audit(deps, route, c, state, error.code);
  } catch (unrecorded) {
    return errorEnvelope(deps, unrecorded);
  }
  return errorEnvelope(deps, error, { scopes: state.neededScopes });
}

/**
 * Whether the route itself makes a change for a known caller. The audit log has such a change as `begun`
 * before it is made.
 */
function isWrite(route: Route): boolean {
  return route.method !== "GET" && route.access !== "public" && route.audited === undefined;
}

function doneButNotAudited(cause: unknown): FormationError {
  return new FormationError("unavailable", "It was done, but the audit log could not be told how it ended.", {
    remedy: "Look how it is now before you repeat it.",
    cause,
  });
}

function noteMissingScope(principal: Principal, scope: Scope, state: RouteState): void {
  if (!principal.scopes.has(scope) && !principal.scopes.has("admin"))
    state.neededScopes = [...principal.scopes, scope];
}

/** @throws FormationError `forbidden` */
function checkAccess(principal: Principal, route: Route, state: RouteState): void {
  if (route.access === "public" || route.access === "any") return;
  noteMissingScope(principal, route.access, state);
  requireScope(principal, route.access);
  if (route.access === "admin" && principal.bounds !== undefined) {
    throw new FormationError("forbidden", "A token with bounds can't be used to administer the server.", {
      remedy: "Sign in with an admin's key.",
    });
  }
}

/** The path's parameters. They are ids and names, of at most 200 characters. */
function pathParameters(c: Context<Env>): Record<string, string> {
  const params = c.req.param() as Record<string, string>;
  for (const [field, value] of Object.entries(params)) {
    if (value.length <= 200) continue;
    throw new FormationError("invalid", `The ${field} in the path is too long.`, { field });
  }
  return params;
}

/**
 * Writes the audit log, unless control has done it. Refusals and writes are stored before the reply goes out.
 * The number of refusals of unknown callers is bounded.
 */
async function audit(
  deps: GatewayDeps,
  route: Route,
  c: Context<Env>,
  { note, byControl }: RouteState,
  outcome: AuditEntry["outcome"],
): Promise<void> {
  if (byControl || route.audited === "not at all") return;
  const action = `${route.method} ${route.path}`;
  const caller = route.access === "public" ? undefined : c.get("caller");
  if (!caller && outcome !== "ok" && outcome !== "begun") {
    return recordRefusal(deps, { outcome, action, address: c.get("address"), traceId: c.get("traceId") });
  }
  await deps.audit.record(
    {
      owner: caller?.principal.owner ?? note.owner ?? null,
      credential: caller?.principal.tokenId ?? null,
      action,
      target: note.target ?? null,
      outcome,
      address: c.get("address") ?? null,
      trace_id: c.get("traceId") ?? null,
    },
    { wait: outcome !== "ok" || route.method !== "GET" },
  );
}
