// What an operator may say about the HTTP door.

import type { Rates } from "./rate-limits.ts";

export interface GatewaySettings {
  /** Names that the Host header may hold beside the public URL's own. */
  allowedHosts?: readonly string[];
  /** Origins of web pages that may read answers: `https://app.example.org`. Default: the server's own alone. */
  corsOrigins?: readonly string[];
  /** Networks of proxies whose X-Forwarded-For and X-Forwarded-Host count. Default: none. */
  trustedProxies?: readonly string[];
  /** Networks from which metrics are read without a token, by whoever asks directly. Default: none. */
  metricsFrom?: readonly string[];
  /** Requests a minute; 0 is no limit. Default: {@link DEFAULT_RATES}. */
  rates?: Partial<Rates>;
}
