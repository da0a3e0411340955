// The OAuth authorization server on the same origin.

export type { GatewayDeps } from "./http/deps.ts";
