// The REST API: all routes in one table, and the router made from it.

import { FormationError } from "@formation-mcp/contract";
import { Hono, type MiddlewareHandler } from "hono";
import { bearerAuth } from "../http/bearer-auth.ts";
import type { Env, GatewayDeps } from "../http/deps.ts";
import { ACCOUNT_ROUTES } from "./account-routes.ts";
import { ADMIN_ROUTES } from "./admin-routes.ts";
import { AUTH_ROUTES } from "./auth-routes.ts";
import { CONTEXT_ROUTES } from "./context-routes.ts";
import { errorEnvelope, jsonResponse } from "./envelope.ts";
import { NODE_ROUTES } from "./node-routes.ts";
import { openApi } from "./openapi.ts";
import { OPERATION_ROUTES } from "./operation-routes.ts";
import { QUEUE_ROUTES } from "./queue-routes.ts";
import { REFERENCE_PAGE_CSP, referencePage } from "./reference-page.ts";
import { type RestRoute, type Route, route } from "./route.ts";
import { createRouteHandler } from "./route-handler.ts";
import { STREAM_ROUTES } from "./stream-routes.ts";
import { TOOL_ROUTES } from "./tool-routes.ts";

const ABOUT_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api",
    access: "public",
    tag: "about",
    id: "reference",
    summary: "This reference, as a page",
    answer: "page",
    audited: "not at all",
    handle: async ({ deps }) => {
      const headers = {
        "content-type": "text/html; charset=utf-8",
        "content-security-policy": REFERENCE_PAGE_CSP,
        "cache-control": "no-cache",
        "x-content-type-options": "nosniff",
      };
      return new Response(described(deps).page, { headers });
    },
  }),
  route({
    method: "GET",
    path: "/api/openapi.json",
    access: "public",
    tag: "about",
    id: "openapi",
    summary: "This reference, as an OpenAPI 3.1 document",
    answer: "document",
    audited: "not at all",
    handle: async ({ deps }) => jsonResponse(described(deps).document, 200, { "cache-control": "no-cache" }),
  }),
];

const ROUTES: readonly Route[] = [
  ...AUTH_ROUTES,
  ...TOOL_ROUTES,
  ...OPERATION_ROUTES,
  ...STREAM_ROUTES,
  ...CONTEXT_ROUTES,
  ...ACCOUNT_ROUTES,
  ...ADMIN_ROUTES,
  ...NODE_ROUTES,
  ...QUEUE_ROUTES,
  ...ABOUT_ROUTES,
];

/** Made at the first request for it: most servers never get one. */
const descriptions = new WeakMap<GatewayDeps, { document: Record<string, unknown>; page: string }>();

function described(deps: GatewayDeps): { document: Record<string, unknown>; page: string } {
  let made = descriptions.get(deps);
  if (!made) {
    const { publicUrl, version } = deps;
    const document = openApi({ routes: ROUTES, publicUrl, version });
    made = { document, page: referencePage(document) };
    descriptions.set(deps, made);
  }
  return made;
}

/** All routes, for tests that check every one of them. */
export const REST_ROUTES: readonly RestRoute[] = ROUTES.map(({ method, path, access, answer }) => ({
  method,
  path,
  access,
  answer,
}));

/**
 * The routes below `/api`, for `app.route("/api", …)`. The variables `address` and `traceId` must be set
 * before.
 * @param gate sets `caller` or refuses. Default: bearer authentication.
 */
export function restRoutes(deps: GatewayDeps, gate: MiddlewareHandler<Env> = bearerAuth(deps)): Hono<Env> {
  const app = new Hono<Env>();
  const methods = new Map<string, string[]>();
  for (const route of ROUTES) {
    const pattern = patternOf(route.path);
    methods.set(pattern, [...(methods.get(pattern) ?? []), route.method]);
    const handler = createRouteHandler(deps, route);
    if (route.access === "public") app.on(route.method, pattern, handler);
    else app.on(route.method, pattern, gate, handler);
  }
  for (const [pattern, allowed] of methods) {
    app.all(pattern, () => {
      const error = new FormationError("invalid", "There is no such method here.", {
        remedy: `Use ${allowed.join(" or ")}.`,
      });
      return errorEnvelope(deps, error, { status: 405, headers: { allow: allowed.join(", ") } });
    });
  }
  app.all("*", () =>
    errorEnvelope(
      deps,
      new FormationError("not_found", "There is nothing at this path.", {
        remedy: "GET /api lists what there is.",
      }),
    ),
  );
  return app;
}

/** A path like `/api/tools/{name}` in the router's syntax, relative to `/api`: `/tools/:name`. */
function patternOf(path: Route["path"]): string {
  return path.slice("/api".length).replace(/\{(\w+)\}/g, ":$1") || "/";
}
