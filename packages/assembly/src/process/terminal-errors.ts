// The text of an error at the terminal: what happened, the reason in the words of the system or server, the
// remedy.

import { FormationError } from "@formation-mcp/contract";

const MAX_CAUSE_LENGTH = 400;

/**
 * What a program writes when it ends with this error, and its exit code: 2 if the command line itself is
 * wrong.
 */
export function terminalError(program: string, error: unknown): { text: string; code: 1 | 2 } {
  if (isUsage(error)) {
    return { text: `${program}: ${error.message.split(". ", 1)[0]}.\n  See: ${program} --help\n`, code: 2 };
  }
  const message = error instanceof Error ? error.message : String(error);
  const cause = causeOf(error);
  const remedy = error instanceof FormationError ? error.details.remedy : undefined;
  const lines = [message, cause === null || message.includes(cause) ? undefined : cause, remedy];
  return {
    text: `${program}: ${lines.filter((line) => line !== undefined).join("\n  ")}\n`,
    code: 1,
  };
}

/**
 * Why the system or a server refused, in its own words, for logs and for terminals of operators. Null for
 * every other error, because its cause may contain the data that was to be written.
 */
export function causeOf(error: unknown): string | null {
  if (!(error instanceof FormationError)) return null;
  if (!["unavailable", "unauthenticated", "forbidden"].includes(error.code)) return null;
  const { cause } = error;
  // A connection attempt to several addresses of a host fails with the error of each.
  const causes = cause instanceof AggregateError && cause.errors.length > 0 ? cause.errors : [cause];
  const messages = causes.filter((each) => each instanceof Error).map((each) => each.message || each.name);
  return messages.length === 0 ? null : [...new Set(messages)].join("; ").slice(0, MAX_CAUSE_LENGTH);
}

function isUsage(error: unknown): error is Error {
  return error instanceof Error && String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
}
