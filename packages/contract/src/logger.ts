// How a room says something to the operator: structured, never a secret, never on stdout.

export interface Logger {
  log(level: "debug" | "info" | "warn" | "error", message: string, fields?: Record<string, unknown>): void;
}

/** Says nothing. */
export const silentLogger: Logger = { log: () => {} };
