// A wake-up signal within one process (an auto-reset event): loops wait for it instead of polling. A ring
// that comes while nothing waits is kept for the next wait, so a loop that looks and then waits misses
// none.

export class Bell {
  #rung = false;
  readonly #waiters = new Set<() => void>();

  /**
   * Ends every wait that is under way, or else the next one at once. Several rings before a wait count as
   * one.
   */
  ring(): void {
    this.#rung = true;
    for (const wake of this.#waiters) wake();
  }

  /**
   * Resolves at the next ring, after `ms` milliseconds or when the signal aborts, whichever comes first.
   * @returns whether the bell rang, during the wait or before it.
   */
  async wait(ms: number, signal?: AbortSignal): Promise<boolean> {
    let woken = false;
    if (!this.#rung && !signal?.aborted) {
      woken = await new Promise<boolean>((resolve) => {
        const end = (rang: boolean) => {
          clearTimeout(timer);
          this.#waiters.delete(wake);
          signal?.removeEventListener("abort", giveUp);
          resolve(rang);
        };
        const wake = () => end(true);
        const giveUp = () => end(false);
        const timer = setTimeout(giveUp, ms);
        this.#waiters.add(wake);
        signal?.addEventListener("abort", giveUp, { once: true });
      });
    }
    const rang = woken || this.#rung;
    this.#rung = false;
    return rang;
  }
}
