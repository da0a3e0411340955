// Waiting until a log file of a machine changes.

import { watch } from "node:fs";
import { join } from "node:path";
import { STREAMS } from "./offsets.ts";

/**
 * A follower that wakes later than a change reads more at once, which costs less when a guest prints a lot.
 */
const BATCH_MS = 20;

export interface LogWatch {
  /** Resolves soon after a change since the last `wait`, at the latest after `ms`. */
  wait(ms: number): Promise<void>;
  close(): void;
}

/** Watches the log files in a run directory. An abort of the signal ends a `wait`, too. */
export function watchLogs(runDirectory: string, signal: AbortSignal): LogWatch {
  let hasChanged = false;
  let wake: (() => void) | null = null;
  const onChange = () => {
    hasChanged = true;
    wake?.();
  };
  const watchers = Object.values(STREAMS).flatMap((file) => {
    try {
      const watcher = watch(join(runDirectory, file), { persistent: false }, onChange);
      watcher.on("error", () => {});
      return [watcher];
    } catch {
      return [];
    }
  });
  signal.addEventListener("abort", onChange, { once: true });
  return {
    wait: (ms) =>
      new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          wake = null;
          hasChanged = false;
          resolve();
        };
        const timer = setTimeout(done, ms);
        if (!hasChanged) wake = done;
        else setTimeout(done, Math.min(ms, BATCH_MS));
      }),
    close: () => {
      for (const watcher of watchers) watcher.close();
      signal.removeEventListener("abort", onChange);
    },
  };
}
