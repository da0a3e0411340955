// One after the other by name, within this process.

export interface Turns {
  /** Does something once everything before it under the name has ended, well or not. */
  run(name: string, action: () => Promise<void>): Promise<void>;
  /** Resolves when nothing runs. */
  idle(): Promise<void>;
}

export function createTurns(): Turns {
  const turns = new Map<string, Promise<void>>();
  return {
    async run(name, action) {
      const before = turns.get(name) ?? Promise.resolve();
      const mine = before.then(action);
      const settled = mine.catch(() => {});
      turns.set(name, settled);
      try {
        await mine;
      } finally {
        if (turns.get(name) === settled) turns.delete(name);
      }
    },
    async idle() {
      await Promise.all(turns.values());
    },
  };
}
