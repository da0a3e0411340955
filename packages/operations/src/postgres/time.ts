// What time it is: the database says so, because every process has a clock of its own and no two agree. Between its answers a
// process counts on by a clock that nobody sets, and a transaction that was begun on a wrong count is begun again.

import type { Clock } from "@formation-mcp/contract";

/** When the server was asked, in milliseconds since the epoch. What waits for a lock afterwards is not counted. */
export const TIME = "date_part('epoch', statement_timestamp()) * 1000";
/** How far a count may be off that something is written by: a quarter of the shortest lease that can be set. */
export const OFF_MS = 250;
/** A count that nothing confirmed for so long is looked at before a read: clocks drift, and the server's may be set. */
const OLD_MS = 10_000;
/** So far apart the two clocks of a process move only if its machine slept or somebody set one of them. */
const LEAP_MS = 1000;

export class DatabaseTime {
  readonly #clock: Clock | undefined;
  /** What the database's clock shows more than `performance.now()`. */
  #ahead = 0;
  #heard = Number.NEGATIVE_INFINITY;
  /** What this machine's clock showed more than `performance.now()` then. */
  #wall = 0;

  /** @param clock whose time it is instead of the database's: a test's. */
  constructor(clock: Clock | undefined) {
    this.#clock = clock;
  }

  /** The count: right to within half the round trip of the quickest answer that was heard. */
  now(): number {
    return this.#clock?.now() ?? Math.floor(performance.now() + this.#ahead);
  }

  /** What a statement by itself is to compare with the server's time; null if it is not to. */
  claimed(now: number): number | null {
    return this.#clock ? null : now;
  }

  /** Whether the count should be confirmed before it is used for what nobody compares. */
  isOld(): boolean {
    if (this.#clock) return false;
    const now = performance.now();
    return now - this.#heard > OLD_MS || Math.abs(Date.now() - now - this.#wall) > LEAP_MS;
  }

  /**
   * Takes in what the database said between two moments of `performance.now()`, and returns whether what was written by `now`
   * may stay. A count that can be true stays as it is: it never jumps to and fro.
   */
  heard(time: number, asked: number, answered: number, now = time): boolean {
    if (this.#clock) return true;
    const [least, most] = [time - answered, time - asked];
    if (this.#ahead < least || this.#ahead > most) this.#ahead = (least + most) / 2;
    this.#heard = answered;
    this.#wall = Date.now() - answered;
    return Math.abs(time - now) <= OFF_MS;
  }
}
