// The router: which path leads to which part of the server. `/mcp` is the MCP endpoint, `/api` the REST API;
// beside them are metadata, health, metrics and the home page.

import { FormationError } from "@formation-mcp/contract";
import { type Context, Hono } from "hono";
import { authenticateRequest } from "./http/bearer-auth.ts";
import type { Env, GatewayDeps } from "./http/deps.ts";
import { errorResponse } from "./http/error-response.ts";
import { createReadiness } from "./http/health.ts";
import { HOME_PAGE_CSP, homePage } from "./http/home-page.ts";
import type { McpEndpoint } from "./http/mcp-endpoint.ts";
import type { Metrics } from "./http/metrics.ts";
import { actionOf, recordRefusal } from "./http/refusals.ts";
import { failureResponse, type RequestContext } from "./http/request-context.ts";
import type { PolicyVerdict } from "./http/request-policy.ts";
import { BASIC_SCOPES } from "./http/www-authenticate.ts";
import { RETRY_AFTER_SECONDS } from "./rest/envelope.ts";
import { restRoutes } from "./rest/routes.ts";

type AppEnv = Env & { Bindings: { context: RequestContext } };

/**
 * Makes the router behind the guards. `app.fetch(request, { context })` needs the context as its bindings.
 */
export function createApp(deps: GatewayDeps, mcp: McpEndpoint, metrics: Metrics): Hono<AppEnv> {
  const app = new Hono<AppEnv>();
  shareContext(app, deps);
  app.all("/mcp", async (c) => {
    const context = c as unknown as Context<Env>;
    return (await authenticateRequest(deps, context)) ?? mcp.serve(context);
  });
  for (const path of ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"]) {
    app.get(path, (c) => c.json(resourceMetadata(deps), 200, PUBLIC_METADATA_HEADERS));
  }
  const readiness = createReadiness(deps);
  app.get("/health/live", (c) => c.json({ status: "ok" }));
  app.get("/health/ready", async (c) => {
    const { ready, parts } = await readiness();
    if (ready) return c.json({ status: "ok", parts });
    return c.json({ status: "unavailable", parts }, 503, { "retry-after": String(RETRY_AFTER_SECONDS) });
  });
  app.get("/metrics", async (c) => {
    const refused = await checkMetricsAccess(deps, c as unknown as Context<Env>, c.env.context.verdict);
    if (refused) return refused;
    const { text, type } = await metrics.render();
    return c.body(text, 200, { "content-type": type });
  });
  const page = homePage(deps.publicUrl, deps.version);
  app.get("/", (c) =>
    c.html(page, 200, { "content-security-policy": HOME_PAGE_CSP, "cache-control": "no-cache" }),
  );
  // Browsers request it by themselves; a 404 would be an error in their console.
  app.get("/favicon.ico", (c) => c.body(null, 204, { "cache-control": "public, max-age=86400" }));
  app.route("/api", restRoutes(deps) as unknown as Hono<AppEnv>);
  return app;
}

/** Moves what is known between the request context and Hono's variables, and answers errors. */
function shareContext(app: Hono<AppEnv>, deps: GatewayDeps): void {
  app.use(async (c, next) => {
    const { context } = c.env;
    c.set("address", context.verdict.address);
    c.set("traceId", context.traceId);
    await next();
    context.action = actionOf(c);
    context.owner = (c.get("caller") as Env["Variables"]["caller"] | undefined)?.principal.owner ?? null;
  });
  app.onError((error, c) => {
    c.env.context.action = actionOf(c);
    return failureResponse(deps.logger, c.env.context, error);
  });
  app.notFound(() =>
    errorResponse(
      new FormationError("not_found", "There is nothing here.", {
        remedy: "The page at / says what there is.",
      }),
    ),
  );
}

/** Any web page may read the metadata. */
const PUBLIC_METADATA_HEADERS = {
  "cache-control": "public, max-age=300",
  "access-control-allow-origin": "*",
  "cross-origin-resource-policy": "cross-origin",
};

/** The metadata of the protected resource (RFC 9728 §2). The scopes are those to begin with. */
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

/**
 * Metrics are for admins, and for the networks that the operator lists; loopback has no privilege. Returns
 * the response to answer with, or null to go on.
 */
async function checkMetricsAccess(
  deps: GatewayDeps,
  c: Context<Env>,
  verdict: PolicyVerdict,
): Promise<Response | null> {
  if (verdict.mayReadMetrics) return null;
  const refused = await authenticateRequest(deps, c);
  if (refused) return refused;
  const { principal } = c.get("caller");
  if (principal.scopes.has("admin")) return null;
  await recordRefusal(deps, {
    action: "GET /metrics",
    address: verdict.address,
    traceId: c.get("traceId"),
    owner: principal.owner,
    credential: principal.tokenId,
    outcome: "forbidden",
  });
  return errorResponse(
    new FormationError("forbidden", "Metrics are for admins.", {
      remedy:
        "Use a token with the scope admin, or let the operator list your network in FORMATION_METRICS_FROM.",
    }),
  );
}
