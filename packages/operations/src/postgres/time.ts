// What time it is. The database's clock decides, because no two processes have the same clock. Between its
// answers a process extrapolates with the monotonic clock; a transaction that began with a wrong time is
// begun again.

import type { Clock } from "@formation-mcp/contract";

/**
 * The server's clock in milliseconds since the epoch, when the statement arrived. Waits for locks do not
 * count.
 */
export const SERVER_TIME = "date_part('epoch', statement_timestamp()) * 1000";
/**
 * How far the time of a write may be off, in milliseconds: a quarter of the shortest lease that can be
 * configured.
 */
export const MAX_SKEW_MS = 250;
/**
 * After so long without an answer the time is confirmed before a read: clocks drift, and the server's may be
 * set.
 */
const CONFIRM_AFTER_MS = 10_000;
/** The two clocks of a process move this far apart only if its machine slept or one of them was set. */
const CLOCK_JUMP_MS = 1000;

export class DatabaseTime {
  readonly #clock: Clock | undefined;
  /** The database's clock minus `performance.now()`. */
  #offset = 0;
  /** The moment of `performance.now()` when the server last told its time. */
  #confirmedAt = Number.NEGATIVE_INFINITY;
  /** This machine's wall clock minus `performance.now()`, then. */
  #wallOffset = 0;

  /** @param clock replaces the database's clock, in tests. */
  constructor(clock: Clock | undefined) {
    this.#clock = clock;
  }

  /** The extrapolated time: off by at most half the round trip of the quickest answer. */
  now(): number {
    return this.#clock?.now() ?? Math.floor(performance.now() + this.#offset);
  }

  /** The time that a single statement compares with the server's; null if it compares none. */
  toCompare(now: number): number | null {
    return this.#clock ? null : now;
  }

  /** Whether the time should be confirmed before a read, which nothing else confirms. */
  needsConfirmation(): boolean {
    if (this.#clock) return false;
    const now = performance.now();
    const jumped = Math.abs(Date.now() - now - this.#wallOffset) > CLOCK_JUMP_MS;
    return jumped || now - this.#confirmedAt > CONFIRM_AFTER_MS;
  }

  /**
   * Takes in the time that the server told. An offset that can be true is kept, so that the time does not
   * jitter.
   * @param asked `performance.now()` before the question, `answered` after the answer.
   * @param now the time of the transaction that asked.
   * @returns whether what was written with `now` may stay.
   */
  confirm(time: number, asked: number, answered: number, now = time): boolean {
    if (this.#clock) return true;
    const [least, most] = [time - answered, time - asked];
    if (this.#offset < least || this.#offset > most) this.#offset = (least + most) / 2;
    this.#confirmedAt = answered;
    this.#wallOffset = Date.now() - answered;
    return Math.abs(time - now) <= MAX_SKEW_MS;
  }
}
