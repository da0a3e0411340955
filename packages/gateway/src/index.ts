// The public API of the HTTP gateway. The OAuth server is a subpath of its own.

export {
  createHttpGateway,
  type GuardResult,
  type HttpGateway,
  type HttpGatewayOptions,
  type RequestInfo,
} from "./gateway.ts";
export { addressKey, plainAddress, trustProxies } from "./http/client-address.ts";
export type { GatewayDeps } from "./http/deps.ts";
export type { RateLimits, Rates } from "./http/rate-limits.ts";
export type { GatewaySettings } from "./http/settings.ts";
export type { Access, RestRoute } from "./rest/route.ts";
export { REST_ROUTES } from "./rest/routes.ts";
