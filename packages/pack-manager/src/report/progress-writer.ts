// Writes progress to the record of an operation. A new step is written at once; reports within a step are
// merged and written after a pause.

import type { Progress } from "@formation-mcp/contract";

type Report = Omit<Progress, "at">;

export interface ProgressWriter {
  /** The fraction never falls within an attempt. */
  step(step: string, message: string, fraction: number | null): void;
  /** The step that runs. */
  readonly current: string;
  /** Resolves when no write is under way; nothing is written after that. */
  close(): Promise<void>;
}

export function createProgressWriter(
  write: (report: Report) => Promise<void>,
  pauseMs = 250,
): ProgressWriter {
  let current = "start";
  let highest: number | null = null;
  let waiting: Report | null = null;
  let writing: Promise<void> | null = null;
  let closed = false;
  let wake: (() => void) | null = null;

  const run = async () => {
    while (waiting && !closed) {
      const report = waiting;
      waiting = null;
      // A report that was not written is no loss: the next one says more, and the renewal sees a void lease.
      await write(report).catch(() => {});
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      wake = null;
    }
    writing = null;
  };

  return {
    step(step, message, fraction) {
      if (fraction !== null) highest = Math.min(1, Math.max(fraction, highest ?? 0));
      const isNew = step !== current;
      current = step;
      waiting = { step, message, fraction: highest };
      if (isNew) wake?.();
      writing ??= run();
    },
    get current() {
      return current;
    },
    async close() {
      closed = true;
      wake?.();
      await writing;
    },
  };
}
