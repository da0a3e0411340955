// Mutual exclusion by name within this process: whoever comes later waits its turn, or does without.

export interface KeyedLock {
  /** Runs the action when all earlier holders of the key are done. */
  run<T>(key: string, action: () => Promise<T>): Promise<T>;
  /** Runs the action only if nobody holds the key; null if somebody does. */
  tryRun<T>(key: string, action: () => Promise<T>): Promise<T | null>;
}

export function createKeyedLock(): KeyedLock {
  const tails = new Map<string, Promise<unknown>>();
  const run = <T>(key: string, action: () => Promise<T>): Promise<T> => {
    const before = tails.get(key) ?? Promise.resolve();
    const result = before.then(action, action);
    const tail: Promise<unknown> = result.then(
      () => release(),
      () => release(),
    );
    const release = () => {
      if (tails.get(key) === tail) tails.delete(key);
    };
    tails.set(key, tail);
    return result;
  };
  return {
    run,
    async tryRun(key, action) {
      return tails.has(key) ? null : run(key, action);
    },
  };
}
