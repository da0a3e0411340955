// Work whose failure must not stop what comes after it: the operator reads of it in the log.

import { FormationError } from "./errors.ts";
import type { Logger } from "./logger.ts";

/**
 * Runs an action and logs what it throws, as {@link logFailure} does.
 * @returns whether it succeeded.
 */
export async function quietly(
  logger: Logger,
  what: string,
  action: () => Promise<unknown>,
): Promise<boolean> {
  try {
    await action();
    return true;
  } catch (thrown) {
    logFailure(logger, what, thrown);
    return false;
  }
}

/** Logs the warning "Could not `what`" with the error's message, code and cause. */
export function logFailure(logger: Logger, what: string, thrown: unknown): void {
  const { code, message, cause } = FormationError.from(thrown);
  logger.log("warn", `Could not ${what}: ${message}`, {
    code,
    ...(cause instanceof Error ? { cause: cause.message } : {}),
  });
}
