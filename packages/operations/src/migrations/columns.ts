// Helpers with which migrations define tables and indexes. Their output never changes, because migrations
// were released. This folder knows the versions of the database, and how one becomes the next.

import type { Compilable, CreateTableBuilder, Kysely, RawBuilder } from "kysely";
import type { Tables } from "../sql/schema.ts";

export const text = "text";
export const integer = "integer";

/** Creates a table of records: `seq`, id, version and times, then its own columns. */
export function recordTable(
  db: Kysely<Tables>,
  name: string,
  own: Record<string, "text" | "integer">,
): Compilable {
  const table = db.schema
    .createTable(name)
    .addColumn("seq", integer, (c) => c.primaryKey())
    .addColumn("id", text, (c) => c.notNull().unique());
  return columns(table, { version: integer, created_at: integer, updated_at: integer, ...own });
}

/** Adds columns. A name that ends in `?` makes a column that may be null. */
export function columns<N extends string>(
  table: CreateTableBuilder<N, string>,
  list: Record<string, "text" | "integer">,
): CreateTableBuilder<N, string> {
  for (const [column, type] of Object.entries(list)) {
    table = column.endsWith("?")
      ? table.addColumn(column.slice(0, -1), type)
      : table.addColumn(column, type, (c) => c.notNull());
  }
  return table;
}

/** Creates indexes on one table; with `where`, partial ones. */
export function indexer(db: Kysely<Tables>, table: string) {
  return (name: string, on: string[], where?: RawBuilder<unknown>): Compilable => {
    const index = db.schema.createIndex(`${table}_${name}`).on(table).columns(on);
    return where ? index.where(where as never) : index;
  };
}
