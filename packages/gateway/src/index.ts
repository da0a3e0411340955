// The HTTP door.

export { addressKey, plainAddress, trustProxies } from "./http/address.ts";
export type { Env, GatewayDeps } from "./http/deps.ts";
export {
  type Admitted,
  createHttpGateway,
  type HttpGateway,
  type HttpGatewayOptions,
  type RequestInfo,
} from "./http/gateway.ts";
export { bearer } from "./http/guard.ts";
export { DEFAULT_RATES, type Limits, type Rates } from "./http/limits.ts";
export type { GatewaySettings } from "./http/settings.ts";
export { REST_ROUTES, restRoutes } from "./rest/routes.ts";
export type { Access, RestRoute } from "./rest/table.ts";
