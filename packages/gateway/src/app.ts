// What stands at which path: the doors and what belongs to a server beside them.

import { FormationError } from "@formation-mcp/contract";
import { type Context, Hono } from "hono";
import { identify } from "./http/bearer-auth.ts";
import type { Env, GatewayDeps } from "./http/deps.ts";
import { fail } from "./http/error-response.ts";
import { createReadiness } from "./http/health.ts";
import { frontPage, PAGE_POLICY } from "./http/home-page.ts";
import type { McpDoor } from "./http/mcp-endpoint.ts";
import type { Metrics } from "./http/metrics.ts";
import { actionOf, recordRefusal } from "./http/refusals.ts";
import { failed, type Visit } from "./http/request-context.ts";
import type { Arrival } from "./http/request-policy.ts";
import { BASIC_SCOPES } from "./http/www-authenticate.ts";
import { UNAVAILABLE_SECONDS } from "./rest/envelope.ts";
import { restRoutes } from "./rest/routes.ts";

type Bound = Env & { Bindings: { visit: Visit } };

/** The router behind the guards; its handlers find the visit in their bindings. */
export function routes(deps: GatewayDeps, mcp: McpDoor, metrics: Metrics) {
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
    if (is) return c.json({ status: "ok", parts });
    return c.json({ status: "unavailable", parts }, 503, { "retry-after": String(UNAVAILABLE_SECONDS) });
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
  // Browsers ask for it by themselves, and tell whoever looks into their console of a 404.
  app.get("/favicon.ico", (c) => c.body(null, 204, { "cache-control": "public, max-age=86400" }));
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

/** Metrics are for an admin, and for networks that the operator names; a caller on loopback is like any other. */
async function mayRead(deps: GatewayDeps, c: Context<Env>, arrival: Arrival): Promise<Response | null> {
  if (arrival.scrapes) return null;
  const refused = await identify(deps, c);
  if (refused) return refused;
  const { principal } = c.get("caller");
  if (principal.scopes.has("admin")) return null;
  const { address, traceId, owner } = { ...arrival, traceId: c.get("traceId"), owner: principal.owner };
  await recordRefusal(deps, {
    action: "GET /metrics",
    address,
    traceId,
    owner,
    credential: principal.credential,
    outcome: "forbidden",
  });
  return fail(
    new FormationError("forbidden", "Metrics are for admins.", {
      remedy:
        "Use a token with the scope admin, or let the operator list your network in FORMATION_METRICS_FROM.",
    }),
  );
}
