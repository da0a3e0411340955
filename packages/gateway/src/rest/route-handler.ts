// How a route is served: who may use it, what it is given, what the audit log is told, and that nothing but a reply in
// the agreed shape ever leaves.

import { type Principal, requireScope, type Scope } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import type { Audited } from "@formation-mcp/control";
import { LISTING } from "@formation-mcp/tools/listing";
import type { Context, Handler } from "hono";
import type { Env, GatewayDeps } from "../http/deps.ts";
import { recordRefusal } from "../http/refusals.ts";
import { failure, success } from "./envelope.ts";
import { checked, readJson } from "./request-body.ts";
import type { Exchange, Route } from "./route.ts";

const SCOPES = new Map(LISTING.map(({ name, scope }) => [name, scope]));

/** The handler of a route behind the bearer gate, or before it if the route is public. */
export function serve(deps: GatewayDeps, route: Route): Handler<Env> {
  return async (c) => {
    const state: State = { note: {}, byControl: false, needed: undefined };
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
      return failure(deps, isWrite(route) ? untold(unrecorded) : unrecorded);
    }
  };
}

async function refuse(
  deps: GatewayDeps,
  route: Route,
  c: Context<Env>,
  state: State,
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
    return failure(deps, unrecorded);
  }
  return failure(deps, error, { scopes: state.needed });
}

/** Whether a change is made by the route itself, for somebody known: a line stands in the log before it. */
function isWrite(route: Route): boolean {
  return route.method !== "GET" && route.access !== "public" && route.audited === undefined;
}

function untold(cause: unknown): FormationError {
  return new FormationError("unavailable", "It was done, but the audit log could not be told how it ended.", {
    remedy: "Look how it is now before you repeat it.",
    cause,
  });
}

interface State {
  note: Exchange["note"];
  /** Whether control was asked, and has told the audit log. */
  byControl: boolean;
  /** The scopes of a token that would do, if this one has too few. */
  needed: string[] | undefined;
}

async function answer(deps: GatewayDeps, route: Route, c: Context<Env>, state: State): Promise<Response> {
  if (route.access !== "public") allow(c.get("caller").principal, route, state);
  const { query, body } = route;
  const params = parameters(c);
  if (params["id"] !== undefined) state.note.target = params["id"];
  const exchange: Exchange = {
    deps,
    c,
    params,
    query: query === undefined ? undefined : checked(query, c.req.query()),
    body: body === undefined || body === "bytes" ? undefined : checked(body, await readJson(c.req.raw)),
    get caller() {
      const caller = c.get("caller");
      if (caller !== undefined && route.access !== "public") return caller;
      throw new FormationError("unauthenticated", "This needs a token.");
    },
    tool: async (name, input, { as, ...hooks } = {}) => {
      const caller = c.get("caller");
      const principal = as ?? caller.principal;
      const scope = SCOPES.get(name);
      if (scope !== undefined) lacks(principal, scope, state);
      state.byControl = true;
      return deps.control.call(principal, name, input, {
        signal: c.req.raw.signal,
        address: c.get("address"),
        traceId: c.get("traceId"),
        ...hooks,
        ...(principal.owner === caller.principal.owner ? {} : { actor: caller.principal.owner }),
      });
    },
    note: state.note,
  };
  if (isWrite(route)) await audit(deps, route, c, state, "begun");
  const said = await route.handle(exchange);
  return said instanceof Response ? said : success(said.data, said.message ?? null);
}

function lacks(principal: Principal, scope: Scope, state: State): void {
  if (!principal.scopes.has(scope) && !principal.scopes.has("admin"))
    state.needed = [...principal.scopes, scope];
}

function allow(principal: Principal, route: Route, state: State): void {
  if (route.access === "public" || route.access === "any") return;
  lacks(principal, route.access, state);
  requireScope(principal, route.access);
  if (route.access === "admin" && principal.bounds !== undefined) {
    throw new FormationError("forbidden", "A token with bounds can't be used to administer the server.", {
      remedy: "Sign in with an admin's key.",
    });
  }
}

/** Path parameters. They are ids and names, never longer than this. */
function parameters(c: Context<Env>): Record<string, string> {
  const params = c.req.param() as Record<string, string>;
  for (const [field, value] of Object.entries(params)) {
    if (value.length <= 200) continue;
    throw new FormationError("invalid", `The ${field} in the path is too long.`, { field });
  }
  return params;
}

/** Refusals and writes are stored before the reply goes out; refusals of nobody known are bounded. */
async function audit(
  deps: GatewayDeps,
  route: Route,
  c: Context<Env>,
  { note, byControl }: State,
  outcome: Audited["outcome"],
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
      credential: caller?.principal.credential ?? null,
      action,
      target: note.target ?? null,
      outcome,
      address: c.get("address") ?? null,
      trace_id: c.get("traceId") ?? null,
    },
    { wait: outcome !== "ok" || route.method !== "GET" },
  );
}
