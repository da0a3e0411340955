// Pages of rows and their opaque cursors.

import { FormationError } from "@formation-mcp/contract";
import { type Compilable, sql } from "kysely";
import type { Page } from "../port.ts";
import { all, type TransactionScript } from "./script.ts";

const MAX_PAGE_ROWS = 1000;

/**
 * Reads a page in descending order of `seq`, merged from one or more queries.
 * @param kind marks the page's cursors, so that a cursor of another list is refused.
 * @param branches the queries, each with a limit and only the rows before a `seq`.
 */
export function* page<R extends { seq: number }, T>(
  query: { limit: number; cursor?: string | null },
  kind: string,
  toRecord: (row: R) => T,
  branches: (limit: number, before: number) => Compilable<R>[],
): TransactionScript<Page<T>> {
  const limit = clamped(query.limit);
  const [before = 0] = readCursor(kind, query.cursor, [Number.MAX_SAFE_INTEGER]);
  const found: R[] = [];
  for (const branch of branches(limit + 1, before)) found.push(...(yield* all(branch)));
  const rows = found.sort((a, b) => b.seq - a.seq).slice(0, limit);
  const last = rows.at(-1);
  return {
    items: rows.map(toRecord),
    cursor: last && found.length > limit ? cursorOf(kind, last.seq) : null,
  };
}

/** The number of rows of a page: what was asked for, between 1 and 1000. */
export function clamped(limit: number): number {
  return Math.min(Math.max(Math.trunc(limit) || 1, 1), MAX_PAGE_ROWS);
}

/** An opaque cursor for a place: the numbers that a list is ordered by. */
export function cursorOf(kind: string, ...place: number[]): string {
  return Buffer.from([kind, ...place].join(".")).toString("base64url");
}

/**
 * The place that a cursor names; `start` without one.
 * @throws FormationError `invalid` for another list's cursor.
 */
export function readCursor(
  kind: string,
  cursor: string | null | undefined,
  start: readonly number[],
): readonly number[] {
  if (cursor === null || cursor === undefined) return start;
  const [of, ...place] = Buffer.from(cursor.slice(0, 100), "base64url").toString().split(".");
  const known = of === kind && place.length === start.length && place.every((n) => /^\d{1,15}$/.test(n));
  if (known) return place.map(Number);
  throw new FormationError("invalid", "The cursor is not one that this list returned.", {
    remedy: "Give the cursor of the page before, or none for the first page.",
    field: "cursor",
  });
}

/** A column in a form that matches no index, so that it only filters the rows which another index found. */
export function filterOnly(column: string) {
  return sql<string>`(${sql.ref(column)} || '')`;
}
