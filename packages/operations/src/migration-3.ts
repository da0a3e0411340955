// Version 3 of the database: labels that operations ask for, and what admins want of nodes.

import { type Compilable, type Kysely, sql } from "kysely";
import { indexer, integer, text } from "./migrating.ts";
import type { Tables } from "./schema.ts";

export function thirdMigration(db: Kysely<Tables>): Compilable[] {
  const { schema } = db;
  return [
    schema.alterTable("operations").addColumn("labels", text),
    schema.alterTable("nodes").addColumn("cordoned", integer, (c) => c.notNull().defaultTo(0)),
    schema.alterTable("nodes").addColumn("drain", text),
    // What a node that is removed leaves behind.
    indexer(db, "operations")("pinned", ["node_id"], sql`ended_at is null and node_id is not null`),
  ];
}
