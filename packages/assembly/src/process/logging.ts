// Log lines as JSON on standard error. Standard output is for the protocol.

import { escapeHidden } from "@formation-mcp/base";
import type { Logger } from "@formation-mcp/contract";
import { causeOf } from "./terminal-errors.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;

/**
 * A logger that writes one JSON object a line: `time`, `level`, `message` and the given fields. Characters
 * that a terminal would obey or hide are escaped.
 */
export function jsonLogger(
  level: (typeof LEVELS)[number],
  write: (line: string) => void = (line) => process.stderr.write(line),
): Logger {
  const least = LEVELS.indexOf(level);
  return {
    log(at, message, fields) {
      if (LEVELS.indexOf(at) < least) return;
      const line = JSON.stringify({
        time: new Date().toISOString(),
        level: at,
        message,
        ...serializable(fields),
      });
      write(`${escapeHidden(line, unicodeEscape)}\n`);
    },
  };
}

function unicodeEscape(character: string): string {
  return character
    .split("")
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("");
}

function serializable(fields: Record<string, unknown> | undefined): Record<string, unknown> {
  const entries = Object.entries(fields ?? {}).map(([key, value]) => [
    key,
    value instanceof Error ? errorText(value) : value,
  ]);
  return Object.fromEntries(entries);
}

function errorText(error: Error): string {
  const cause = causeOf(error);
  const message = `${error.name}: ${error.message}`;
  return cause === null || message.includes(cause) ? message : `${message} (${cause})`;
}
