// The logger that packages are given to tell the operator something: structured, without secrets, never on
// stdout.

export interface Logger {
  log(level: "debug" | "info" | "warn" | "error", message: string, fields?: Record<string, unknown>): void;
}

/** A logger that drops everything. */
export const silentLogger: Logger = { log: () => {} };
