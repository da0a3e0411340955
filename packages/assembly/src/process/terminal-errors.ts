// An error as the person at the terminal wants it: what happened, why in the words of who refused, and what to do.

import { FormationError } from "@formation-mcp/contract";

const LONGEST = 400;

/** What a program writes when it ends with this error, and its exit code: 2 where the command line itself is wrong. */
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
 * Why something is not to be had, in the words of the system or the server that refused; for logs and terminals of operators.
 * Null for what is no refusal of theirs: other causes may hold what was to be written.
 */
export function causeOf(error: unknown): string | null {
  if (!(error instanceof FormationError)) return null;
  if (!["unavailable", "unauthenticated", "forbidden"].includes(error.code)) return null;
  const { cause } = error;
  // Who tries several addresses of a host keeps a list of what each said.
  const causes = cause instanceof AggregateError && cause.errors.length > 0 ? cause.errors : [cause];
  const said = causes.filter((each) => each instanceof Error).map((each) => each.message || each.name);
  return said.length === 0 ? null : [...new Set(said)].join("; ").slice(0, LONGEST);
}

function isUsage(error: unknown): error is Error {
  return error instanceof Error && String((error as { code?: unknown }).code).startsWith("ERR_PARSE_ARGS");
}
