// Reads the configuration, opens the drivers and hands out the wired system.
export {};
