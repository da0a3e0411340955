// Background work that repeats: never two runs at a time, and a run that fails is reported and does not end
// the task.

export interface PeriodicTaskOptions {
  everyMs: number;
  action(): Promise<unknown>;
  /** Called with what a run threw. Must not throw. */
  onFailure(thrown: unknown): void;
  /** Whether the task keeps a Node process alive. Default: true. */
  keepsAlive?: boolean;
}

export interface PeriodicTask {
  /**
   * Runs the action now; while a run is under way, joins it. Never rejects. Does nothing once the task is
   * stopped.
   */
  run(): Promise<void>;
  /** Starts no more runs and resolves when the one under way has ended. */
  stop(): Promise<void>;
}

/**
 * Starts a task whose first run is after `everyMs`. The next run is skipped
 * while one is still under way.
 */
export function startPeriodicTask(options: PeriodicTaskOptions): PeriodicTask {
  const { everyMs, action, onFailure, keepsAlive = true } = options;
  let underWay: Promise<void> | null = null;
  let stopped = false;
  const attempt = async () => {
    try {
      await action();
    } catch (thrown) {
      onFailure(thrown);
    } finally {
      underWay = null;
    }
  };
  const run = async () => {
    if (stopped) return;
    underWay ??= attempt();
    await underWay;
  };
  const timer = setInterval(run, everyMs);
  // Browsers have numbers here, which have no such method.
  if (!keepsAlive) (timer as { unref?(): void }).unref?.();
  return {
    run,
    async stop() {
      stopped = true;
      clearInterval(timer);
      await underWay;
    },
  };
}
