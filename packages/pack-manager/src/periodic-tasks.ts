// The periodic tasks of one worker, which stop together.

import { type PeriodicTask, startPeriodicTask } from "@formation-mcp/base";
import { type Logger, logFailure } from "@formation-mcp/contract";

export interface PeriodicTasks {
  /** Runs an action every `everyMs` milliseconds. A failure is logged with `what` as its subject. */
  start(everyMs: number, what: string, action: () => Promise<unknown>): PeriodicTask;
  /** Stops every task, those that are started later too. Resolves when none of them runs. */
  stop(): Promise<void>;
}

export function createPeriodicTasks(logger: Logger): PeriodicTasks {
  const tasks: PeriodicTask[] = [];
  let stopped = false;
  return {
    start(everyMs, what, action) {
      const onFailure = (thrown: unknown) => logFailure(logger, what, thrown);
      const task = startPeriodicTask({ everyMs, action, onFailure });
      tasks.push(task);
      if (stopped) void task.stop();
      return task;
    },
    async stop() {
      stopped = true;
      await Promise.all(tasks.map((task) => task.stop()));
    },
  };
}
