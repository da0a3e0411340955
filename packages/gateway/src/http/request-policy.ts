// The request policy: from the headers and the socket alone it decides whose request this is, whether its
// Host and Origin are allowed, and which web origin may read the response. It keeps out DNS rebinding and
// other people's web pages (MCP, Streamable HTTP, "Security Warning").

import { isIP } from "node:net";
import { plainAddress, trustProxies } from "./client-address.ts";
import type { GatewayDeps } from "./deps.ts";
import type { GatewaySettings } from "./settings.ts";

/** What the policy decides about a request, before any work is done for it. */
export interface PolicyVerdict {
  /** The client's address: the socket's, or the one that a trusted proxy reports. */
  address: string;
  /** Whether the request comes directly from a network that may read the metrics. */
  mayReadMetrics: boolean;
  /**
   * Whether such a request names the server by an IP address, as Prometheus does. DNS rebinding needs a host
   * name, so this is safe.
   */
  hostIsAddress: boolean;
  /** The Origin header, if the operator lists it for CORS. */
  corsOrigin: string | null;
  /** Which check refuses the request, or null. */
  refused: "host" | "origin" | null;
}

export interface RequestPolicy {
  /** @param peer the address of the socket's other end. */
  evaluate(request: Pick<Request, "headers">, peer: string): PolicyVerdict;
}

const LOOPBACK_NAMES: readonly string[] = ["localhost", "127.0.0.1", "[::1]"];
/** Headers that a proxy adds: a request with one of them did not come directly. */
const PROXY_HEADERS: readonly string[] = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];

export function createRequestPolicy(
  deps: Pick<GatewayDeps, "publicUrl">,
  settings: GatewaySettings,
): RequestPolicy {
  const { hosts, origins } = allowedNames(deps.publicUrl, settings);
  const corsOrigins = new Set(settings.corsOrigins ?? []);
  const proxies = trustProxies(settings.trustedProxies ?? []);
  const scrapers = trustProxies(settings.metricsFrom ?? []);

  return {
    evaluate({ headers }, peer) {
      const plain = plainAddress(peer);
      const byProxy = proxies.trusted(plain);
      const host = (byProxy ? headers.get("x-forwarded-host") : null) ?? headers.get("host");
      const origin = headers.get("origin");
      const listed = origin !== null && corsOrigins.has(origin);
      const name = hostnameOf(host);
      const mayReadMetrics =
        !byProxy && scrapers.trusted(plain) && !PROXY_HEADERS.some((header) => headers.has(header));
      return {
        address: proxies.clientOf(plain, headers.get("x-forwarded-for")),
        mayReadMetrics,
        hostIsAddress: mayReadMetrics && origin === null && isIP((name ?? "").replace(/^\[|\]$/g, "")) !== 0,
        corsOrigin: listed ? origin : null,
        refused:
          name === null || !hosts.has(name)
            ? "host"
            : origin !== null && !listed && !origins.has(origin)
              ? "origin"
              : null,
      };
    },
  };
}

/**
 * The host names that the server answers to, and its own origins. On loopback all loopback names are the
 * same.
 */
function allowedNames(
  url: string,
  { allowedHosts = [] }: GatewaySettings,
): { hosts: ReadonlySet<string>; origins: ReadonlySet<string> } {
  const { hostname, protocol, origin, port } = new URL(url);
  const aliases = LOOPBACK_NAMES.includes(hostname) ? LOOPBACK_NAMES : [];
  const suffix = port === "" ? "" : `:${port}`;
  return {
    hosts: new Set([hostname, ...allowedHosts.map((host) => host.toLowerCase()), ...aliases]),
    origins: new Set([origin, ...aliases.map((name) => `${protocol}//${name}${suffix}`)]),
  };
}

/**
 * The name in a Host header: `name`, `name:port` or `[v6]:port`. Null for anything else, also for a list that
 * two proxies make.
 */
function hostnameOf(host: string | null): string | null {
  return (
    /^(\[[0-9a-f:.]{2,45}\]|[a-z0-9](?:[a-z0-9.-]{0,252}))(?::\d{1,5})?$/i
      .exec(host ?? "")?.[1]
      ?.toLowerCase() ?? null
  );
}
