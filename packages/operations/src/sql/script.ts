// How the rules of the store are written once for every driver: as scripts, generators that yield queries and get their
// results. A driver runs a whole script inside one transaction, so no script can wait for anything but the database.

import { type Compilable, type CompiledQuery, type Kysely, sql } from "kysely";
import { type Locks, NO_LOCKS } from "./locks.ts";
import type { Tables } from "./schema.ts";

export interface Result {
  rows: unknown[];
  /** How many rows were written. */
  changes: number;
}

/** Yields queries, is given their results, and returns what it found. A throw rolls back. */
export type Script<T> = Generator<CompiledQuery, T, Result>;

/** What every script works with: SQL built by Kysely, and the time of this transaction. */
export interface Query {
  readonly db: Kysely<Tables>;
  /** Milliseconds since the epoch: one moment for a whole transaction. */
  readonly now: number;
  readonly locks: Locks;
  /** Whether documents, counters and the audit log are there to see: a worker's role on PostgreSQL has no right on them. */
  readonly whole: boolean;
  /**
   * Builds a query once per key and fills in the parameters from then on. Every value that differs from call to call
   * must come from `params`; what shapes the SQL must be in the key.
   */
  cached<P extends Record<string, unknown>, O>(
    key: string,
    params: P,
    build: (db: Kysely<Tables>, params: P) => Compilable<O>,
  ): Compilable<O>;
}

/** The rows that a query returns. */
export function* all<O>(query: Compilable<O>): Script<O[]> {
  return (yield query.compile()).rows as O[];
}

/** The first row that a query returns, or undefined. */
export function* first<O>(query: Compilable<O>): Script<O | undefined> {
  return (yield query.compile()).rows[0] as O | undefined;
}

/** How many rows a statement wrote. */
export function* count(query: Compilable): Script<number> {
  return (yield query.compile()).changes;
}

/** Parameters that there are several of: `subject0`, `subject1`, … as {@link numbered} named them. */
export function values(params: object, name: string, length: number): string[] {
  return Array.from({ length }, (_, i) => (params as Record<string, string>)[`${name}${i}`] as string);
}

/** Names several values, to be parameters of one query. */
export function numbered(name: string, list: readonly string[]): Record<string, string> {
  return Object.fromEntries(list.map((value, i) => [`${name}${i}`, value]));
}

/**
 * A row limit that differs from call to call. Bare, `limit ?` makes SQLite prepare the statement anew for each value
 * bound, to plan for it; limits that do not differ are literals for the same reason.
 */
export function atMost(limit: number) {
  return sql<number>`cast(${limit} as bigint)`;
}

/** A row limit of one. */
export const ONE = sql.lit(1);

class Param {
  readonly name: string;
  constructor(name: string) {
    this.name = name;
  }
}

/** Makes {@link Query.cached} over a Kysely instance that only compiles. */
export function queries(db: Kysely<Tables>, locks = NO_LOCKS, whole = true): (now: number) => Query {
  const compiled = new Map<string, CompiledQuery>();
  return (now) => ({
    db,
    now,
    locks,
    whole,
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
