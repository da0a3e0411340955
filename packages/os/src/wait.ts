// Waiting for a condition by polling it, with a limit.

import { setTimeout as delay } from "node:timers/promises";
import { FormationError } from "@formation-mcp/contract";

/** The longest delay that Node's timers support; a longer one fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

export interface WaitOptions {
  timeoutMs: number;
  /** Interval between polls, in milliseconds. Default: 50. */
  everyMs?: number;
  signal?: AbortSignal;
  /** What is waited for, as a noun phrase for the error message. */
  what: string;
}

/** The truthy part of a condition's type. */
export type Truthy<T> = Exclude<NonNullable<T>, false | 0 | 0n | "">;

/**
 * Polls a condition and resolves with its first truthy result. The condition is called at least once; an
 * error that it throws rejects the promise.
 * @throws FormationError `limit` after `timeoutMs`, also if a pending condition never resolves; `cancelled`
 *   if the signal aborts.
 */
export async function waitFor<T>(condition: () => T | Promise<T>, options: WaitOptions): Promise<Truthy<T>> {
  const end = performance.now() + options.timeoutMs;
  const settled = new AbortController();
  const stop = options.signal ? AbortSignal.any([options.signal, settled.signal]) : settled.signal;
  try {
    for (;;) {
      if (options.signal?.aborted) throw cancelled(options);
      const left = end - performance.now();
      const answer = await answerOf(condition, Math.max(left, 0), stop);
      if (answer === "late" || (!answer?.value && end - performance.now() <= 0)) {
        if (options.signal?.aborted) throw cancelled(options);
        throw new FormationError("limit", `Waited ${options.timeoutMs} ms in vain for ${options.what}.`);
      }
      if (answer.value) return answer.value as Truthy<T>;
      const pause = Math.min(options.everyMs ?? 50, Math.max(0, end - performance.now()));
      await delay(pause, undefined, { signal: stop }).catch(() => {});
    }
  } finally {
    settled.abort();
  }
}

/** The condition's result; `late` if it takes longer than `leftMs` or `stop` aborts. */
async function answerOf<T>(
  condition: () => T | Promise<T>,
  leftMs: number,
  stop: AbortSignal,
): Promise<{ value: T } | "late"> {
  const value = condition();
  if (!(value instanceof Promise)) return { value };
  const timer = new AbortController();
  const either = AbortSignal.any([stop, timer.signal]);
  try {
    return await Promise.race([
      value.then((answer) => ({ value: answer })),
      delay(Math.min(leftMs, MAX_TIMER_MS), "late" as const, { signal: either }).catch(() => "late" as const),
    ]);
  } finally {
    timer.abort();
  }
}

function cancelled(options: WaitOptions): FormationError {
  return new FormationError("cancelled", `No longer waiting for ${options.what}.`);
}
