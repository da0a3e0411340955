// When something was written by anybody, asked seldom and answered at once: each commit takes a number, and who asks for the
// revision is told of the last number that was seen, and has it looked for behind his back.

import type { Schemas } from "./dialect.ts";
import type { Transactions } from "./pool.ts";

export class Revision {
  readonly #transactions: Transactions;
  readonly #question: string;
  readonly #pollMs: number;
  #revision = 0;
  #seen = 0;
  #asking = false;
  #asked = Number.NEGATIVE_INFINITY;
  /** A number is taken just before its commit: what had taken one and was not to be seen yet is to be seen next time. */
  #underWay = false;

  constructor(transactions: Transactions, { records }: Schemas, pollMs: number) {
    this.#transactions = transactions;
    this.#pollMs = pollMs;
    this.#question = `SELECT CASE WHEN is_called THEN last_value ELSE 0 END AS count,
      pg_snapshot_xmin(pg_current_snapshot()) <> pg_snapshot_xmax(pg_current_snapshot()) AS under_way
      FROM "${records}".revision`;
  }

  now(): number {
    if (!this.#asking && performance.now() - this.#asked >= this.#pollMs) void this.#ask();
    return this.#revision;
  }

  /** A commit of this process or another had this number. */
  saw(count: number): boolean {
    if (count <= this.#seen) return false;
    this.#seen = count;
    this.#revision++;
    return true;
  }

  /** The number itself, asked for now. */
  async exactly(): Promise<number> {
    const [row] = await this.#transactions.ask<{ count: number }>(this.#question);
    return row?.count ?? 0;
  }

  async #ask(): Promise<void> {
    this.#asking = true;
    try {
      const [row] = await this.#transactions.ask<{ count: number; under_way: boolean }>(this.#question);
      if (!row) return;
      const waited = this.#underWay;
      const rose = this.saw(row.count);
      if (waited && !rose) this.#revision++;
      this.#underWay = rose && row.under_way;
    } catch {
      // Whoever needs the database is told by his own question.
    } finally {
      this.#asking = false;
      this.#asked = performance.now();
    }
  }
}
