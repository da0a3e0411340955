// The HTTP door.

export {
  type Admitted,
  createHttpGateway,
  type HttpGateway,
  type HttpGatewayOptions,
  type RequestInfo,
} from "./gateway.ts";
export { bearer } from "./http/bearer-auth.ts";
export { addressKey, plainAddress, trustProxies } from "./http/client-address.ts";
export type { Env, GatewayDeps } from "./http/deps.ts";
export type { Limits, Rates } from "./http/rate-limits.ts";
export type { GatewaySettings } from "./http/settings.ts";
export type { Access, RestRoute } from "./rest/route.ts";
export { REST_ROUTES, restRoutes } from "./rest/routes.ts";
