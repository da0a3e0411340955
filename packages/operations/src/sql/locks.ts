// What a script holds on to where others write at the same time. SQLite has one writer, who holds everything: there none of
// this is asked for. The order that keeps transactions from waiting for each other: names, operations, their records.

import type { CompiledQuery, SelectQueryBuilder } from "kysely";
import type { Query, Script } from "./script.ts";

export interface Locks {
  /** Whether others write at the same time. */
  readonly shared: boolean;
  /** Rows that are read to be changed: waits for who has them, and reads what they have become. */
  wait<D, T extends keyof D, O>(select: SelectQueryBuilder<D, T, O>): SelectQueryBuilder<D, T, O>;
  /** As `wait`, without the rows that somebody has: he does with them what is due. `of` names the table meant. */
  skipLocked<D, T extends keyof D, O>(
    select: SelectQueryBuilder<D, T, O>,
    of?: T & string,
  ): SelectQueryBuilder<D, T, O>;
  /** What makes this transaction the only one beyond a name. */
  name(name: string): CompiledQuery | null;
  /** What makes this transaction the only writer of tables. */
  tables(names: readonly string[]): CompiledQuery | null;
}

/** For who is the only writer, and for who only reads. */
export const NO_LOCKS: Locks = {
  shared: false,
  wait: (select) => select,
  skipLocked: (select) => select,
  name: () => null,
  tables: () => null,
};

/** From here on no other transaction is beyond the same words, until this one ends. */
export function* alone(q: Query, ...words: string[]): Script<void> {
  const lock = q.locks.name(JSON.stringify(words));
  if (lock) yield lock;
}

/** From here on nobody else writes to these tables, until this transaction ends. */
export function* onlyWriter(q: Query, ...tables: string[]): Script<void> {
  const lock = q.locks.tables(tables);
  if (lock) yield lock;
}
