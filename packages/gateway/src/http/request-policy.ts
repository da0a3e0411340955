// The first look at a request: for which host, from which origin, from where. It keeps DNS rebinding and other people's web
// pages out (MCP, "Security Warning" of the Streamable HTTP transport), and says what browsers may do with an answer.

import { isIP } from "node:net";
import { type Proxies, plainAddress, trustProxies } from "./client-address.ts";
import type { GatewayDeps } from "./deps.ts";
import type { GatewaySettings } from "./settings.ts";

/** What is known of a request before anything is done for it. */
export interface Arrival {
  /** The client's address: the socket's, or what a trusted proxy says. */
  address: string;
  /** Whether the request came straight from where metrics may be read. */
  scrapes: boolean;
  /** Whether such a request calls the server by an address, as Prometheus does: to rebind DNS, a page needs a name. */
  byAddress: boolean;
  /** The Origin header, if it is one that may read answers. */
  readableBy: string | null;
  /** Why it is turned away, or null. */
  refused: "host" | "origin" | null;
}

export interface Front {
  look(request: Pick<Request, "headers">, peer: string): Arrival;
}

const LOOPBACK_NAMES: readonly string[] = ["localhost", "127.0.0.1", "[::1]"];

export function createFront(deps: Pick<GatewayDeps, "publicUrl">, settings: GatewaySettings): Front {
  const publicUrl = new URL(deps.publicUrl);
  const local = LOOPBACK_NAMES.includes(publicUrl.hostname);
  const hosts = new Set([
    publicUrl.hostname,
    ...(settings.allowedHosts ?? []).map((host) => host.toLowerCase()),
    ...(local ? LOOPBACK_NAMES : []),
  ]);
  const port = publicUrl.port === "" ? "" : `:${publicUrl.port}`;
  const origins = new Set([
    publicUrl.origin,
    ...(local ? LOOPBACK_NAMES.map((name) => `${publicUrl.protocol}//${name}${port}`) : []),
  ]);
  const readers = new Set(settings.corsOrigins ?? []);
  const proxies: Proxies = trustProxies(settings.trustedProxies ?? []);
  const scrapers = trustProxies(settings.metricsFrom ?? []);

  return {
    look({ headers }, peer) {
      const plain = plainAddress(peer);
      const byProxy = proxies.trusted(plain);
      const host = (byProxy ? headers.get("x-forwarded-host") : null) ?? headers.get("host");
      const origin = headers.get("origin");
      const readable = origin !== null && readers.has(origin);
      const name = hostnameOf(host);
      const scrapes = !byProxy && scrapers.trusted(plain) && !FORWARDED.some((each) => headers.has(each));
      return {
        address: proxies.clientOf(plain, headers.get("x-forwarded-for")),
        scrapes,
        byAddress: scrapes && origin === null && isIP((name ?? "").replace(/^\[|\]$/g, "")) !== 0,
        readableBy: readable ? origin : null,
        refused:
          name === null || !hosts.has(name)
            ? "host"
            : origin !== null && !readable && !origins.has(origin)
              ? "origin"
              : null,
      };
    },
  };
}

const FORWARDED = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

/** `name`, `name:port`, `[v6]:port`; null for anything else, a list as two proxies make it included. */
function hostnameOf(host: string | null): string | null {
  return (
    /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,252}))(?::\d{1,5})?$/i
      .exec(host ?? "")?.[1]
      ?.toLowerCase() ?? null
  );
}

/** What every answer says, whoever made it. */
export function securityHeaders(publicUrl: string): Readonly<Record<string, string>> {
  return {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    // `same-origin` and not `no-referrer`, which would make browsers send `Origin: null` with our own forms.
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "x-permitted-cross-domain-policies": "none",
    ...(publicUrl.startsWith("https:") ? { "strict-transport-security": "max-age=31536000" } : {}),
  };
}

/** What an answer says that has no policy of its own: nothing of it is a page. */
export const NO_PAGE = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

const CORS_METHODS = "GET, POST, PUT, DELETE";
const CORS_REQUEST_HEADERS =
  "authorization, content-type, accept, last-event-id, mcp-protocol-version, mcp-method, mcp-name, traceparent, tracestate";
const CORS_EXPOSED = "www-authenticate, mcp-protocol-version, mcp-session-id, retry-after, x-trace-id";

/** What lets a page of a listed origin read the answer (Fetch, "CORS protocol"). Tokens are headers: no credentials. */
export function corsHeaders(origin: string | null): Record<string, string> {
  if (origin === null) return {};
  return {
    "access-control-allow-origin": origin,
    "access-control-expose-headers": CORS_EXPOSED,
    "cross-origin-resource-policy": "cross-origin",
  };
}

/** The answer to a preflight of a listed origin. */
export function preflight(origin: string): Response {
  return new Response(null, {
    status: 204,
    headers: {
      ...corsHeaders(origin),
      "access-control-allow-methods": CORS_METHODS,
      "access-control-allow-headers": CORS_REQUEST_HEADERS,
      "access-control-max-age": "600",
      vary: "Origin",
    },
  });
}
