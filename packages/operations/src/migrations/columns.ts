// How migrations spell tables and indexes. They were released: what these functions make never changes.

import type { Compilable, CreateTableBuilder, Kysely, RawBuilder } from "kysely";
import type { Tables } from "../sql/schema.ts";

export const text = "text";
export const integer = "integer";

/** A table of records: `seq`, id, version and times, then its own columns. */
export function records(
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

/** Adds columns; one whose name ends in `?` may be null. */
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

/** Makes indexes of one table; with `where`, of a part of it. */
export function indexer(db: Kysely<Tables>, table: string) {
  return (name: string, on: string[], where?: RawBuilder<unknown>): Compilable => {
    const index = db.schema.createIndex(`${table}_${name}`).on(table).columns(on);
    return where ? index.where(where as never) : index;
  };
}
