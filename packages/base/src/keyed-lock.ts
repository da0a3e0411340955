// Mutual exclusion by key within one process: actions on one key run one after the other, in the order of
// their calls. Actions on different keys run at the same time.

export interface KeyedLock {
  /**
   * Runs the action when every earlier action on the key has ended, whether it failed or not. Rejects with
   * what the action throws; that does not stop later ones. An action that waits for another action on its own
   * key never ends (the lock is not reentrant).
   */
  run<T>(key: string, action: () => Promise<T>): Promise<T>;
  /** Runs the action only if the key is free; otherwise resolves to null and does not call it. */
  tryRun<T>(key: string, action: () => Promise<T>): Promise<T | null>;
  /** Resolves when all actions that were requested so far have ended, whether they failed or not. */
  idle(): Promise<void>;
}

/** Holds memory only for keys that are in use. */
export function createKeyedLock(): KeyedLock {
  const tails = new Map<string, Promise<void>>();
  const run = <T>(key: string, action: () => Promise<T>): Promise<T> => {
    const result = (tails.get(key) ?? Promise.resolve()).then(action);
    const release = () => {
      if (tails.get(key) === tail) tails.delete(key);
    };
    const tail = result.then(release, release);
    tails.set(key, tail);
    return result;
  };
  return {
    run,
    async tryRun(key, action) {
      return tails.has(key) ? null : run(key, action);
    },
    async idle() {
      await Promise.all(tails.values());
    },
  };
}
