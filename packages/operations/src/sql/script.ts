// How the rules of the store are written once for all databases: as scripts. A script is a generator that
// yields queries and receives their results. A driver runs a whole script in one transaction, so a script can
// wait for nothing but the database.

import { type Compilable, type CompiledQuery, type Kysely, sql } from "kysely";
import { type Locks, NO_LOCKS } from "./locks.ts";
import type { Tables } from "./schema.ts";

export interface Result {
  rows: unknown[];
  /** How many rows were written. */
  changes: number;
}

/**
 * Yields queries, receives their results, and returns what the rule returns. A throw rolls the transaction
 * back.
 */
export type TransactionScript<T> = Generator<CompiledQuery, T, Result>;

/**
 * The transaction that a script runs in: Kysely to write queries with, the time, and the locks of this
 * database.
 */
export interface Transaction {
  /** It only compiles; the driver runs what the script yields. */
  readonly db: Kysely<Tables>;
  /** Milliseconds since the epoch: one moment for the whole transaction. */
  readonly now: number;
  readonly locks: Locks;
  /**
   * Whether it sees documents, counters and the audit log. A worker's role on PostgreSQL has no right on
   * them.
   */
  readonly seesPrivate: boolean;
  /**
   * Compiles a query once per key; later calls only fill in the parameters. Every value that differs from
   * call to call comes from `params`, and everything that changes the SQL is part of the key.
   */
  cached<P extends Record<string, unknown>, O>(
    key: string,
    params: P,
    build: (db: Kysely<Tables>, params: P) => Compilable<O>,
  ): Compilable<O>;
}

/** Runs a query and returns its rows. */
export function* all<O>(query: Compilable<O>): TransactionScript<O[]> {
  return (yield query.compile()).rows as O[];
}

/** Runs a query and returns its first row, or undefined. */
export function* first<O>(query: Compilable<O>): TransactionScript<O | undefined> {
  return (yield query.compile()).rows[0] as O | undefined;
}

/** Runs a statement and returns how many rows it wrote. */
export function* run(query: Compilable): TransactionScript<number> {
  return (yield query.compile()).changes;
}

/** Locks a name until the end of the transaction: other transactions wait here for the same words. */
export function* lockName(tx: Transaction, ...words: string[]): TransactionScript<void> {
  const lock = tx.locks.name(JSON.stringify(words));
  if (lock) yield lock;
}

/** Locks tables against other writers until the end of the transaction. */
export function* lockTables(tx: Transaction, ...tables: string[]): TransactionScript<void> {
  const lock = tx.locks.tables(tables);
  if (lock) yield lock;
}

/** Parameters for a list of values: `subject0`, `subject1`, … to be passed to {@link Transaction.cached}. */
export function numberedParams(name: string, list: readonly string[]): Record<string, string> {
  return Object.fromEntries(list.map((value, i) => [`${name}${i}`, value]));
}

/** The list again, inside a query that is being built: the parameters that {@link numberedParams} named. */
export function numberedValues(params: object, name: string, length: number): string[] {
  return Array.from({ length }, (_, i) => (params as Record<string, string>)[`${name}${i}`] as string);
}

/**
 * A row limit that differs from call to call. SQLite prepares a statement with a plain `limit ?` again for
 * each value bound, to plan for that value; the cast prevents it. A limit that never differs is a literal.
 */
export function limitParam(limit: number) {
  return sql<number>`cast(${limit} as bigint)`;
}

/** The literal 1, for `limit`. */
export const ONE = sql.lit(1);

/** Stands for a parameter while a query is compiled. */
class Param {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/**
 * Makes transactions for the scripts of one store; they share its compiled queries.
 * @param db Kysely as a compiler for this database.
 * @returns a function from the time of a transaction to the transaction.
 */
export function createTransactions(
  db: Kysely<Tables>,
  locks = NO_LOCKS,
  seesPrivate = true,
): (now: number) => Transaction {
  const compiled = new Map<string, CompiledQuery>();
  return (now) => ({
    db,
    now,
    locks,
    seesPrivate,
    cached(key, params, build) {
      let query = compiled.get(key);
      if (!query) {
        const names = Object.fromEntries(Object.keys(params).map((name) => [name, new Param(name)]));
        query = build(db, names as typeof params).compile();
        compiled.set(key, query);
      }
      const filled = {
        ...query,
        parameters: query.parameters.map((value) => (value instanceof Param ? params[value.name] : value)),
      };
      return { compile: () => filled as never };
    },
  });
}
