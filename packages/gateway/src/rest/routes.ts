// The REST door: the routes in one table, and the router made from it.

import { FormationError } from "@formation-mcp/contract";
import { Hono, type MiddlewareHandler } from "hono";
import type { Env, GatewayDeps } from "../http/deps.ts";
import { bearer } from "../http/guard.ts";
import { ACCOUNT_ROUTES } from "./account-routes.ts";
import { ADMIN_ROUTES } from "./admin-routes.ts";
import { AUTH_ROUTES } from "./auth-routes.ts";
import { CONTEXT_ROUTES } from "./context-routes.ts";
import { OPERATION_ROUTES } from "./operation-routes.ts";
import { failure } from "./replies.ts";
import { serve } from "./serve.ts";
import { STREAM_ROUTES } from "./stream-routes.ts";
import type { RestRoute, Route } from "./table.ts";
import { TOOL_ROUTES } from "./tool-routes.ts";

const ROUTES: readonly Route[] = [
  ...AUTH_ROUTES,
  ...TOOL_ROUTES,
  ...OPERATION_ROUTES,
  ...STREAM_ROUTES,
  ...CONTEXT_ROUTES,
  ...ACCOUNT_ROUTES,
  ...ADMIN_ROUTES,
];

/** Every route there is, for whoever checks them all. */
export const REST_ROUTES: readonly RestRoute[] = ROUTES.map(({ method, path, access, answer }) => ({
  method,
  path,
  access,
  answer,
}));

/**
 * The routes below `/api`, for `app.route("/api", …)`; address and trace id are set before.
 * @param gate what lets callers in; the bearer gate by default.
 */
export function restRoutes(deps: GatewayDeps, gate: MiddlewareHandler<Env> = bearer(deps)): Hono<Env> {
  const app = new Hono<Env>();
  const methods = new Map<string, string[]>();
  for (const route of ROUTES) {
    const pattern = patternOf(route.path);
    methods.set(pattern, [...(methods.get(pattern) ?? []), route.method]);
    const handler = serve(deps, route);
    if (route.access === "public") app.on(route.method, pattern, handler);
    else app.on(route.method, pattern, gate, handler);
  }
  for (const [pattern, allowed] of methods) {
    app.all(pattern, () => {
      const error = new FormationError("invalid", "There is no such method here.", {
        remedy: `Use ${allowed.join(" or ")}.`,
      });
      return failure(deps, error, { status: 405, headers: { allow: allowed.join(", ") } });
    });
  }
  app.all("*", () =>
    failure(
      deps,
      new FormationError("not_found", "There is nothing at this path.", {
        remedy: "GET /api lists what there is.",
      }),
    ),
  );
  return app;
}

/** `/api/tools/{name}` as the router has it, below `/api`. */
function patternOf(path: Route["path"]): string {
  return path.slice("/api".length).replace(/\{(\w+)\}/g, ":$1") || "/";
}
