// The store's revision: a number that rises when any process has written. Each commit takes the next value of
// a sequence. `now()` answers at once with the last value seen and polls the sequence in the background.

import type { Schemas } from "./dialect.ts";
import type { TransactionPool } from "./pool.ts";

export class RevisionPoller {
  readonly #pool: TransactionPool;
  readonly #query: string;
  readonly #pollMs: number;
  #revision = 0;
  /** The highest value of the sequence that was seen. */
  #seen = 0;
  #polling = false;
  #polledAt = Number.NEGATIVE_INFINITY;
  /**
   * Whether transactions ran at the last poll. A transaction takes its value just before it commits, so what
   * such a one wrote may become visible without another rise of the sequence.
   */
  #openTransactions = false;

  constructor(pool: TransactionPool, { records }: Schemas, pollMs: number) {
    this.#pool = pool;
    this.#pollMs = pollMs;
    this.#query = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS count,
      pg_snapshot_xmin(pg_current_snapshot()) <> pg_snapshot_xmax(pg_current_snapshot()) AS open_transactions
      FROM "${records}".revision`;
  }

  now(): number {
    if (!this.#polling && performance.now() - this.#polledAt >= this.#pollMs) void this.#poll();
    return this.#revision;
  }

  /** A commit of any process took this value. Returns whether it is new. */
  saw(count: number): boolean {
    if (count <= this.#seen) return false;
    this.#seen = count;
    this.#revision++;
    return true;
  }

  /** The sequence's value, read now. */
  async exactly(): Promise<number> {
    const [row] = await this.#pool.query<{ count: number }>(this.#query);
    return row?.count ?? 0;
  }

  async #poll(): Promise<void> {
    this.#polling = true;
    try {
      const [row] = await this.#pool.query<{ count: number; open_transactions: boolean }>(this.#query);
      if (!row) return;
      const hadOpen = this.#openTransactions;
      const rose = this.saw(row.count);
      if (hadOpen && !rose) this.#revision++;
      this.#openTransactions = rose && row.open_transactions;
    } catch {
      // A caller that needs the database gets the error from its own query.
    } finally {
      this.#polling = false;
      this.#polledAt = performance.now();
    }
  }
}
