// The HTTP door.

export type { Env, GatewayDeps } from "./http/deps.ts";
