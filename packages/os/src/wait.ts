// Waiting for a condition, with a limit.

import { setTimeout as delay } from "node:timers/promises";
import { FormationError } from "@formation-mcp/contract";

export interface WaitOptions {
  timeoutMs: number;
  /** How often the condition is asked, in milliseconds. Default 50. */
  everyMs?: number;
  signal?: AbortSignal;
  /** What is waited for, for the error. */
  what: string;
}

/**
 * Resolves with the first truthy answer.
 * @throws FormationError `limit` after `timeoutMs`, `cancelled` when the signal aborts.
 */
export async function waitFor<T>(
  condition: () => T | Promise<T>,
  options: WaitOptions,
): Promise<NonNullable<T>> {
  const end = performance.now() + options.timeoutMs;
  for (;;) {
    if (options.signal?.aborted)
      throw new FormationError("cancelled", `No longer waiting for ${options.what}.`);
    const answer = await condition();
    if (answer) return answer;
    const left = end - performance.now();
    if (left <= 0)
      throw new FormationError("limit", `Waited ${options.timeoutMs} ms in vain for ${options.what}.`);
    await delay(
      Math.min(options.everyMs ?? 50, left),
      undefined,
      options.signal ? { signal: options.signal } : {},
    ).catch(() => {});
  }
}
