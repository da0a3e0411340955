// When the node asks the store for work: in rounds, each of which claims until nothing fits. A round begins
// when the loop is woken, and at the latest when the poll interval has passed.

import type { Bell } from "@formation-mcp/base";
import { quietly } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";

export interface ClaimLoop {
  start(): void;
  /** Begins a round soon: there may be something to claim. */
  wake(): void;
  /** Wakes the loop at a time (milliseconds since the epoch), or at the next poll if that comes first. */
  wakeAt(time: number): void;
  /** Resolves when a whole round has run that began after the call; at once if the loop is closed. */
  round(): Promise<void>;
  /** Whether the store answered in the last round. */
  isAnswered(): boolean;
  /** Calls back after each round. */
  onRound(listener: () => void): void;
  /** Begins no further round. */
  close(): void;
  /** Resolves when the last round is over. */
  ended(): Promise<void>;
}

/** Added to a wait, so that the clock has reached the time when the timer fires. */
const TIMER_MARGIN_MS = 5;

/** @param claimNext claims one operation; returns whether there may be more. */
export function createClaimLoop(
  { settings, clock, logger }: Pick<WorkerDeps, "settings" | "clock" | "logger">,
  bell: Bell,
  claimNext: () => Promise<boolean>,
): ClaimLoop {
  const timers = new Set<NodeJS.Timeout>();
  let closed = false;
  let isAnswered = true;
  let waiting: (() => void)[] = [];
  let onRound = () => {};
  let running: Promise<void> = Promise.resolve();

  const wake = () => bell.ring();
  const claimAll = async () => {
    while (await claimNext()) if (closed) break;
  };
  const run = async () => {
    while (!closed) {
      const roundOf = waiting;
      waiting = [];
      isAnswered = await quietly(logger, "claim an operation", claimAll);
      onRound();
      for (const resolve of roundOf) resolve();
      if (!closed) await bell.wait(settings.pollEveryMs);
    }
    for (const resolve of waiting) resolve();
  };
  return {
    start() {
      running = run();
    },
    wake,
    wakeAt(time) {
      if (closed) return;
      const waitMs = Math.min(Math.max(0, time - clock.now()) + TIMER_MARGIN_MS, settings.pollEveryMs);
      const timer = setTimeout(() => {
        timers.delete(timer);
        wake();
      }, waitMs);
      timers.add(timer);
    },
    round: () =>
      new Promise<void>((resolve) => {
        if (closed) return resolve();
        waiting.push(resolve);
        wake();
      }),
    isAnswered: () => isAnswered,
    onRound(listener) {
      onRound = listener;
    },
    close() {
      closed = true;
      for (const timer of timers) clearTimeout(timer);
      wake();
    },
    ended: () => running,
  };
}
