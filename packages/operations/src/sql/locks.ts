// The locks of a transaction that writes while others write too. SQLite has one writer at a time, which needs
// none of them: there they compile to nothing. To avoid deadlocks every script takes names first, then
// operations, then their records.

import type { CompiledQuery, SelectQueryBuilder } from "kysely";

export interface Locks {
  /** Whether other transactions write at the same time. */
  readonly manyWriters: boolean;
  /**
   * FOR UPDATE: for rows that are read to be changed. It waits for the transaction that has a row, and reads
   * its result.
   */
  forUpdate<D, T extends keyof D, O>(select: SelectQueryBuilder<D, T, O>): SelectQueryBuilder<D, T, O>;
  /**
   * FOR UPDATE SKIP LOCKED: as `forUpdate`, but without the rows that another transaction has locked; that
   * transaction handles them.
   * @param of the table, where the query joins several.
   */
  skipLocked<D, T extends keyof D, O>(
    select: SelectQueryBuilder<D, T, O>,
    of?: T & string,
  ): SelectQueryBuilder<D, T, O>;
  /** An advisory lock on a name, or null where none is needed. */
  name(name: string): CompiledQuery | null;
  /** A lock against other writers of whole tables, or null where none is needed. */
  tables(names: readonly string[]): CompiledQuery | null;
}

/** For a database with one writer at a time, and for transactions that only read. */
export const NO_LOCKS: Locks = {
  manyWriters: false,
  forUpdate: (select) => select,
  skipLocked: (select) => select,
  name: () => null,
  tables: () => null,
};
