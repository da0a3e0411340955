// The HTTP gateway as a whole. Every request passes the same guards in the same order. Every response gets
// the same headers, one line in the access log and one count in the metrics.

import { getPath } from "hono/utils/url";
import { createApp } from "./app.ts";
import { logRequest } from "./http/access-log.ts";
import type { GatewayDeps } from "./http/deps.ts";
import { applyGuards, checkHostAndOrigin } from "./http/guards.ts";
import { createMcpEndpoint } from "./http/mcp-endpoint.ts";
import { createMetrics } from "./http/metrics.ts";
import { createRateLimits, DEFAULT_RATES } from "./http/rate-limits.ts";
import { failureResponse, pathOf, type RequestContext, type RequestHead } from "./http/request-context.ts";
import { createRequestPolicy } from "./http/request-policy.ts";
import { corsHeaders, NO_CONTENT_CSP, securityHeaders } from "./http/response-headers.ts";
import type { GatewaySettings } from "./http/settings.ts";
import { createTraceIds } from "./http/trace-id.ts";

export interface HttpGatewayOptions extends GatewayDeps {
  settings?: GatewaySettings;
}

export interface RequestInfo {
  /** The address of the socket's other end. */
  address: string;
}

/** What the guards say about a request that something beside the gateway serves. */
export interface GuardResult {
  /** The response to answer with, if the guards refuse the request. */
  refused: Response | null;
  /** The client's address: the socket's, or the one that a trusted proxy reports. */
  address: string;
  /** The headers that the response must have. */
  headers: Record<string, string>;
  /** To be called with the status once the request is answered. */
  answered(status: number): void;
}

export interface HttpGateway {
  /** Answers a request; never rejects. */
  fetch(request: Request, info: RequestInfo): Promise<Response>;
  /**
   * The guards, log and headers for requests that the OAuth server answers on the same origin. Never rejects.
   */
  guard(request: RequestHead, info: RequestInfo): Promise<GuardResult>;
  /** Ends MCP connections. */
  close(): Promise<void>;
}

/** Wires the gateway over the parts of a server. */
export function createHttpGateway(options: HttpGatewayOptions): HttpGateway {
  const { settings = {}, ...given } = options;
  const rates = { ...DEFAULT_RATES, ...settings.rates };
  const metrics = createMetrics(given.version);
  const deps: GatewayDeps = {
    limits: createRateLimits(given.counters, rates, given.clock),
    ...given,
    control: metrics.countCalls(given.control),
  };
  const policy = createRequestPolicy(deps, settings);
  const mcp = createMcpEndpoint(deps);
  const commonHeaders = Object.entries({ ...DEFAULTS, ...securityHeaders(deps.publicUrl), vary: "Origin" });
  const traceIdOf = createTraceIds(deps.random);
  const app = createApp(deps, mcp, metrics);

  const begin = (request: RequestHead, info: RequestInfo): RequestContext => {
    metrics.requestStarted();
    return {
      verdict: policy.evaluate(request, info.address),
      traceId: traceIdOf(request.headers.get("traceparent")),
      startedAt: performance.now(),
      action: `${request.method} (unknown)`,
      owner: null,
    };
  };
  const end = (request: RequestHead, path: string, context: RequestContext, status: number) => {
    const seconds = (performance.now() - context.startedAt) / 1000;
    const route = context.action.slice(context.action.indexOf(" ") + 1);
    metrics.requestAnswered({ method: request.method, route, status, seconds });
    logRequest(deps.logger, request, path, context, { status, seconds });
  };

  return {
    close: () => mcp.close(),
    async fetch(request, info) {
      const context = begin(request, info);
      // As the router reads it: another spelling of a path must not pass the guard of that path.
      const path = getPath(request);
      let response: Response;
      try {
        const refused = await applyGuards(deps, context, request.method, path);
        response = refused ?? (await app.fetch(request, { context }));
      } catch (thrown) {
        response = failureResponse(deps.logger, context, thrown);
      }
      const { headers } = response;
      for (const [name, value] of ownHeaders(context)) if (!headers.has(name)) headers.set(name, value);
      for (const [name, value] of commonHeaders) if (!headers.has(name)) headers.set(name, value);
      end(request, path, context, response.status);
      return response;
    },
    async guard(request, info) {
      const context = begin(request, info);
      const path = pathOf(request);
      context.action = `${request.method} /${path.split("/")[1] ?? ""}/*`;
      let refused: Response | null;
      try {
        refused = await checkHostAndOrigin(deps, context, request.method, path);
      } catch (thrown) {
        refused = failureResponse(deps.logger, context, thrown);
      }
      return {
        refused,
        address: context.verdict.address,
        headers: Object.fromEntries([...commonHeaders, ...ownHeaders(context)]),
        answered: (status) => end(request, path, context, status),
      };
    },
  };
}

const DEFAULTS = { "cache-control": "no-store", "content-security-policy": NO_CONTENT_CSP };

/** The headers that differ between responses; they win over the common ones. */
function ownHeaders(context: RequestContext): [string, string][] {
  return [["x-trace-id", context.traceId], ...Object.entries(corsHeaders(context.verdict.corsOrigin))];
}
