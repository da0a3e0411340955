// Log lines as JSON on standard error: standard output belongs to the protocol.

import type { Logger } from "@formation-mcp/contract";
import { causeOf } from "./terminal-errors.ts";

const LEVELS = ["debug", "info", "warn", "error"] as const;

/** What JSON leaves as it is and a terminal obeys or hides: DEL, C1, format characters (bidi, zero width), line ends. */
const UNSEEN = /[\u007f-\u009f\u2028\u2029]|\p{Cf}/gu;

/**
 * A logger that writes one JSON object a line: `time`, `level`, `message` and the fields given. Whoever reads the lines on
 * a terminal sees every character of them.
 */
export function jsonLogger(
  level: (typeof LEVELS)[number],
  write: (line: string) => void = (line) => process.stderr.write(line),
): Logger {
  const least = LEVELS.indexOf(level);
  return {
    log(at, message, fields) {
      if (LEVELS.indexOf(at) < least) return;
      const line = JSON.stringify({ time: new Date().toISOString(), level: at, message, ...plain(fields) });
      write(`${line.replace(UNSEEN, escaped)}\n`);
    },
  };
}

function escaped(character: string): string {
  return character
    .split("")
    .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`)
    .join("");
}

function plain(fields: Record<string, unknown> | undefined): Record<string, unknown> {
  const entries = Object.entries(fields ?? {}).map(([key, value]) => [
    key,
    value instanceof Error ? told(value) : value,
  ]);
  return Object.fromEntries(entries);
}

function told(error: Error): string {
  const cause = causeOf(error);
  const message = `${error.name}: ${error.message}`;
  return cause === null || message.includes(cause) ? message : `${message} (${cause})`;
}
