// The HTTP door as a whole: every request passes the same guards in the same order, and every answer leaves with the same
// headers, one line in the log and one count in the metrics, whoever made it.

import { getPath } from "hono/utils/url";
import { routes } from "./app.ts";
import type { GatewayDeps } from "./http/deps.ts";
import { guard, turnAway } from "./http/guards.ts";
import { createMcpDoor } from "./http/mcp-endpoint.ts";
import { createMetrics } from "./http/metrics.ts";
import { createLimits, DEFAULT_RATES } from "./http/rate-limits.ts";
import { type Asked, accessLog, failed, pathOf, type Visit } from "./http/request-context.ts";
import { corsHeaders, createFront, NO_PAGE, securityHeaders } from "./http/request-policy.ts";
import type { GatewaySettings } from "./http/settings.ts";
import { traceIds } from "./http/trace-id.ts";

export interface HttpGatewayOptions extends GatewayDeps {
  settings?: GatewaySettings;
}
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
  const always = Object.entries({ ...DEFAULTS, ...securityHeaders(deps.publicUrl), vary: "Origin" });
  const traceIdOf = traceIds(deps.random);
  const app = routes(deps, mcp, metrics);

  const enter = (request: Asked, info: RequestInfo): Visit => {
    metrics.began();
    return {
      arrival: front.look(request, info.address),
      traceId: traceIdOf(request.headers.get("traceparent")),
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
      // As the router reads it: a spelling of a path must not pass the guard of that path.
      const path = getPath(request);
      let response: Response;
      try {
        response = (await guard(deps, visit, request.method, path)) ?? (await app.fetch(request, { visit }));
      } catch (thrown) {
        response = failed(deps.logger, visit, thrown);
      }
      const { headers } = response;
      for (const [name, value] of ownHeaders(visit)) if (!headers.has(name)) headers.set(name, value);
      for (const [name, value] of always) if (!headers.has(name)) headers.set(name, value);
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
        headers: Object.fromEntries([...always, ...ownHeaders(visit)]),
        answered: (status) => leave(request, path, visit, status),
      };
    },
  };
}

const DEFAULTS = { "cache-control": "no-store", "content-security-policy": NO_PAGE };

/** What differs from answer to answer, and stands before what is always said. */
function ownHeaders(visit: Visit): [string, string][] {
  return [["x-trace-id", visit.traceId], ...Object.entries(corsHeaders(visit.arrival.readableBy))];
}
