// The HTTP door as a whole: every request passes the same guards in the same order, and every answer leaves with the same
// headers, one line in the log and one count in the metrics, whoever made it.

import type { Logger } from "@formation-mcp/contract";
import { FormationError } from "@formation-mcp/contract";
import { type Context, Hono } from "hono";
import { restRoutes } from "../rest/routes.ts";
import { addressKey, isLoopback } from "./address.ts";
import { BASIC_SCOPES } from "./challenge.ts";
import type { Env, GatewayDeps } from "./deps.ts";
import { fail } from "./errors.ts";
import { type Arrival, corsHeaders, createFront, NO_PAGE, preflight, securityHeaders } from "./front.ts";
import { identify, tooOften } from "./guard.ts";
import { createReadiness } from "./health.ts";
import { createLimits, DEFAULT_RATES } from "./limits.ts";
import { createMcpDoor } from "./mcp-door.ts";
import { createMetrics } from "./metrics.ts";
import { frontPage, PAGE_POLICY } from "./page.ts";
import { actionOf, recordRefusal } from "./refusals.ts";
import type { GatewaySettings } from "./settings.ts";
import { traceIdOf } from "./trace.ts";

export interface HttpGatewayOptions extends GatewayDeps {
  settings?: GatewaySettings;
}

/** What of a request the guards look at. */
export type Asked = Pick<Request, "method" | "url" | "headers">;

export interface RequestInfo {
  /** The address of the socket's other end. */
  address: string;
}

/** What a request that something beside the gateway serves was given by the guards. */
export interface Admitted {
  /** The answer, if it was turned away. */
  refused: Response | null;
  /** The client's address, which a trusted proxy may have said. */
  address: string;
  /** What the answer has to say. */
  headers: Record<string, string>;
  /** To be called with the status once it is answered. */
  answered(status: number): void;
}

export interface HttpGateway {
  /** Answers a request; never rejects. */
  fetch(request: Request, info: RequestInfo): Promise<Response>;
  /** The same guards, log and headers for what is served beside it on the same origin: the OAuth server. */
  admit(request: Asked, info: RequestInfo): Promise<Admitted>;
  /** Ends what runs. */
  close(): Promise<void>;
}

/** What the gateway knows of a request, and what its handlers read. */
interface Visit {
  arrival: Arrival;
  traceId: string;
  began: number;
  /** The route's pattern, once it is known. */
  action: string;
  owner: string | null;
}

export function createHttpGateway(options: HttpGatewayOptions): HttpGateway {
  const { settings = {}, ...given } = options;
  const rates = { ...DEFAULT_RATES, ...settings.rates };
  const metrics = createMetrics(given.version);
  const deps: GatewayDeps = {
    limits: createLimits(given.counters, rates, given.clock),
    ...given,
    control: metrics.counted(given.control),
  };
  const front = createFront(deps, settings);
  const mcp = createMcpDoor(deps);
  const always = securityHeaders(deps.publicUrl);
  const app = routes(deps, mcp, metrics);

  const enter = (request: Asked, info: RequestInfo): Visit => {
    metrics.began();
    return {
      arrival: front.look(request, info.address),
      traceId: traceIdOf(request.headers.get("traceparent"), deps.random),
      began: performance.now(),
      action: `${request.method} (unknown)`,
      owner: null,
    };
  };
  const leave = (request: Asked, path: string, visit: Visit, status: number) => {
    const seconds = (performance.now() - visit.began) / 1000;
    const route = visit.action.slice(visit.action.indexOf(" ") + 1);
    metrics.answered({ method: request.method, route, status, seconds });
    accessLog(deps.logger, request, path, visit, status, seconds);
  };

  return {
    close: () => mcp.close(),
    async fetch(request, info) {
      const visit = enter(request, info);
      const path = pathOf(request);
      let response: Response;
      try {
        response = (await guard(deps, visit, request.method, path)) ?? (await app.fetch(request, { visit }));
      } catch (thrown) {
        response = failed(deps.logger, visit, thrown);
      }
      for (const [name, value] of Object.entries({ ...DEFAULTS, ...answerHeaders(always, visit) })) {
        if (!response.headers.has(name)) response.headers.set(name, value);
      }
      leave(request, path, visit, response.status);
      return response;
    },
    async admit(request, info) {
      const visit = enter(request, info);
      const path = pathOf(request);
      visit.action = `${request.method} /${path.split("/")[1] ?? ""}/*`;
      let refused: Response | null;
      try {
        refused = await turnAway(deps, visit, request.method, path);
      } catch (thrown) {
        refused = failed(deps.logger, visit, thrown);
      }
      return {
        refused,
        address: visit.arrival.address,
        headers: { ...DEFAULTS, ...answerHeaders(always, visit) },
        answered: (status) => leave(request, path, visit, status),
      };
    },
  };
}

const DEFAULTS = { "cache-control": "no-store", "content-security-policy": NO_PAGE };

/** What makes tokens, and what could be tried until it fits. */
const SIGN_IN = /^\/api\/auth\/(?!validate$)/;

/** The guards that need no token: host, origin, how often an address may ask. The refusal, or null. */
async function guard(
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
async function turnAway(
  deps: GatewayDeps,
  visit: Visit,
  method: string,
  path: string,
): Promise<Response | null> {
  const { address, direct, refused, readableBy } = visit.arrival;
  // Who scrapes metrics on this machine calls it by a name of this machine.
  if (refused === "host" && path === "/metrics" && direct && isLoopback(address)) return null;
  // What says who this server is anybody may read from anywhere.
  if (refused === "origin" && (method === "GET" || method === "HEAD") && PUBLIC.test(path)) return null;
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

type Bound = Env & { Bindings: { visit: Visit } };

function routes(
  deps: GatewayDeps,
  mcp: ReturnType<typeof createMcpDoor>,
  metrics: ReturnType<typeof createMetrics>,
) {
  const app = new Hono<Bound>();
  const ready = createReadiness(deps);
  app.use(async (c, next) => {
    const { visit } = c.env;
    c.set("address", visit.arrival.address);
    c.set("traceId", visit.traceId);
    await next();
    visit.action = actionOf(c);
    visit.owner = (c.get("caller") as Env["Variables"]["caller"] | undefined)?.principal.owner ?? null;
  });
  app.onError((error, c) => {
    c.env.visit.action = actionOf(c);
    return failed(deps.logger, c.env.visit, error);
  });
  app.notFound(() =>
    fail(
      new FormationError("not_found", "There is nothing here.", {
        remedy: "The page at / says what there is.",
      }),
    ),
  );

  app.all("/mcp", async (c) => {
    const context = c as unknown as Context<Env>;
    return (await identify(deps, context)) ?? mcp.serve(context);
  });
  for (const path of ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"]) {
    app.get(path, (c) => c.json(resourceMetadata(deps), 200, OPEN));
  }
  app.get("/health/live", (c) => c.json({ status: "ok" }));
  app.get("/health/ready", async (c) => {
    const { ready: is, parts } = await ready();
    return c.json({ status: is ? "ok" : "unavailable", parts }, is ? 200 : 503);
  });
  app.get("/metrics", async (c) => {
    const refused = await mayRead(deps, c as unknown as Context<Env>, c.env.visit.arrival);
    if (refused) return refused;
    const { text, type } = await metrics.render();
    return c.body(text, 200, { "content-type": type });
  });
  const page = frontPage(deps.publicUrl, deps.version);
  app.get("/", (c) =>
    c.html(page, 200, { "content-security-policy": PAGE_POLICY, "cache-control": "no-cache" }),
  );
  app.route("/api", restRoutes(deps) as unknown as Hono<Bound>);
  return app;
}

/** Metadata is for everybody, web pages of any origin included. */
const OPEN = {
  "cache-control": "public, max-age=300",
  "access-control-allow-origin": "*",
  "cross-origin-resource-policy": "cross-origin",
};

/** RFC 9728 §2. Scopes are those to begin with; a call that needs more says so. */
function resourceMetadata({ publicUrl, authority }: GatewayDeps): Record<string, unknown> {
  return {
    resource: authority.audience,
    authorization_servers: [publicUrl],
    scopes_supported: BASIC_SCOPES,
    bearer_methods_supported: ["header"],
    resource_name: "Formation MCP",
    resource_documentation: `${publicUrl}/`,
  };
}

/** Metrics are for a process of this machine that asks directly, or for an admin. */
async function mayRead(deps: GatewayDeps, c: Context<Env>, arrival: Arrival): Promise<Response | null> {
  if (arrival.direct && isLoopback(arrival.address)) return null;
  const refused = await identify(deps, c);
  if (refused) return refused;
  const { principal, tokenId } = c.get("caller");
  if (principal.scopes.has("admin")) return null;
  const { address, traceId, owner } = { ...arrival, traceId: c.get("traceId"), owner: principal.owner };
  await recordRefusal(deps, {
    action: "GET /metrics",
    address,
    traceId,
    owner,
    credential: tokenId,
    outcome: "forbidden",
  });
  return fail(
    new FormationError("forbidden", "Metrics are for admins.", {
      remedy: "Use a token with the scope admin.",
    }),
  );
}

function answerHeaders(always: Readonly<Record<string, string>>, visit: Visit): Record<string, string> {
  return {
    ...always,
    vary: "Origin",
    "x-trace-id": visit.traceId,
    ...corsHeaders(visit.arrival.readableBy),
  };
}

/** What broke inside is told to the operator, with the trace id that the caller has too. */
function failed(logger: Logger, visit: Visit, thrown: unknown): Response {
  const error = FormationError.from(thrown);
  if (error.code === "internal") {
    const cause =
      error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : String(error.cause);
    logger.log("error", "A request failed inside the server.", { trace_id: visit.traceId, cause });
  }
  return fail(error);
}

function pathOf(request: Asked): string {
  const from = request.url.indexOf("/", request.url.indexOf("//") + 2);
  const to = request.url.search(/[?#]/);
  return from < 0 ? "/" : request.url.slice(from, to < 0 ? undefined : to);
}

/** One line a request: no query, no token, no character that a log could take for something else. */
function accessLog(
  logger: Logger,
  request: Asked,
  path: string,
  visit: Visit,
  status: number,
  seconds: number,
): void {
  logger.log("info", "request", {
    method: plain(request.method, 10),
    path: plain(hideCodes(path), 200),
    status,
    ms: Math.round(seconds * 10_000) / 10,
    address: visit.arrival.address,
    owner: visit.owner,
    trace_id: visit.traceId,
    agent: plain(request.headers.get("user-agent") ?? "", 120),
  });
}

/** The last part of a path below /auth may be a code that signs somebody in. */
function hideCodes(path: string): string {
  return path.replace(/^(\/(?:auth|oauth)\/[a-z-]+)\/.*$/, "$1/…");
}

function plain(text: string, most: number): string {
  return text.slice(0, most).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
}
