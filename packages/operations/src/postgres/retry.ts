// Which failures of a transaction are tried again, and for how long. Nothing is tried again that may have
// been committed.

import { setTimeout as delay } from "node:timers/promises";
import { asFormationError, isConflict, isDisconnect, isDuplicate, isOutdated } from "./errors.ts";

/**
 * How long a transaction is tried again after it met others, and after its connection broke, in milliseconds.
 */
const CONFLICT_RETRY_MS = 15_000;
const DISCONNECT_RETRY_MS = 1000;
/**
 * A row that another transaction inserted first is visible at the next try; a duplicate id fails at every
 * try.
 */
const MAX_DUPLICATE_TRIES = 5;
const MAX_BACKOFF_MS = 100;

/** A commit that certainly was not made. */
export class NotCommitted extends Error {}

/**
 * A transaction that began with a time too far from the server's. It is rolled back, and its connection is
 * still good.
 */
export class WrongTime extends Error {
  /** In the class of SQLSTATEs that roll a transaction back. */
  readonly code = "40000";
}

/** Runs an action again with exponential back-off while it fails before it could write anything. */
export async function withRetries<T>(action: () => Promise<T>, isClosed: () => boolean): Promise<T> {
  const began = performance.now();
  for (let tries = 1; ; tries++) {
    try {
      return await action();
    } catch (error) {
      const tooLate = performance.now() - began >= retryMs(error, tries);
      if (isClosed() || tooLate) throw asFormationError(error);
      await delay(Math.min(2 ** tries, MAX_BACKOFF_MS) * (0.5 + Math.random()));
    }
  }
}

/** How long after its start an action that failed so is tried again, in milliseconds; 0 for never. */
function retryMs(error: unknown, tries: number): number {
  if (isDuplicate(error) && tries >= MAX_DUPLICATE_TRIES) return 0;
  if (isConflict(error) || isOutdated(error)) return CONFLICT_RETRY_MS;
  if (error instanceof NotCommitted || error instanceof WrongTime) return CONFLICT_RETRY_MS;
  return isDisconnect(error) ? DISCONNECT_RETRY_MS : 0;
}
