// Reads the configuration, opens the drivers and hands out the wired system.

export { type Configuration, readConfiguration, tellStrangers, VARIABLES } from "./configuration.ts";
export { explained } from "./explaining.ts";
export { jsonLogger } from "./logging.ts";
export type { Program } from "./program.ts";
export { lazySystem, openSystem, type System, type SystemOptions } from "./system.ts";
