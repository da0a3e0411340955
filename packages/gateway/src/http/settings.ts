// The operator's settings of the gateway.

import type { Rates } from "./rate-limits.ts";

export interface GatewaySettings {
  /** Host names that the server answers to, beside the public URL's own. */
  allowedHosts?: readonly string[];
  /** Origins of web pages that may call the server: `https://app.example.org`. Default: only its own. */
  corsOrigins?: readonly string[];
  /** Networks of proxies whose X-Forwarded-For and X-Forwarded-Host are trusted. Default: none. */
  trustedProxies?: readonly string[];
  /** Networks that may read the metrics without a token, if they connect directly. Default: none. */
  metricsFrom?: readonly string[];
  /** Requests per minute; 0 is no limit. Default: {@link DEFAULT_RATES}. */
  rates?: Partial<Rates>;
}
