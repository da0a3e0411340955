// Log lines as JSON on standard error: standard output belongs to the protocol.

import type { Logger } from "@formation-mcp/contract";

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** A logger that writes one JSON object a line: `time`, `level`, `message` and the fields given. */
export function jsonLogger(
  level: (typeof LEVELS)[number],
  write: (line: string) => void = (line) => process.stderr.write(line),
): Logger {
  const least = LEVELS.indexOf(level);
  return {
    log(at, message, fields) {
      if (LEVELS.indexOf(at) < least) return;
      write(`${JSON.stringify({ time: new Date().toISOString(), level: at, message, ...plain(fields) })}\n`);
    },
  };
}

function plain(fields: Record<string, unknown> | undefined): Record<string, unknown> {
  const entries = Object.entries(fields ?? {}).map(([key, value]) => [
    key,
    value instanceof Error ? `${value.name}: ${value.message}` : value,
  ]);
  return Object.fromEntries(entries);
}
