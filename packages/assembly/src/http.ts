// The HTTP server's system: reads its settings, opens the drivers, wires authority, control and doors.

export type { Configuration } from "./configuration.ts";
