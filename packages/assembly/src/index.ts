// Reads the configuration, opens the drivers and hands out the wired system.

export { jsonLogger } from "./process/logging.ts";
export type { Program } from "./process/program.ts";
export { lazySystem, openSystem, type System, type SystemOptions } from "./process/system.ts";
export { terminalError } from "./process/terminal-errors.ts";
export { type Configuration, readConfiguration, warnUnknownVariables } from "./settings/configuration.ts";
