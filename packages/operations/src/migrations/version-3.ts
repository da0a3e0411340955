// Version 3 of the database: labels that operations ask for, what admins want of nodes, and where other nodes
// find an image.

import { type Compilable, type Kysely, sql } from "kysely";
import type { Tables } from "../sql/schema.ts";
import { indexer, integer, text } from "./columns.ts";

export function thirdMigration(db: Kysely<Tables>): Compilable[] {
  const { schema } = db;
  return [
    schema.alterTable("operations").addColumn("labels", text),
    schema.alterTable("builds").addColumn("archive", text),
    indexer(db, "builds")("archive", ["archive"], sql`archive is not null`),
    schema.alterTable("nodes").addColumn("cordoned", integer, (c) => c.notNull().defaultTo(0)),
    schema.alterTable("nodes").addColumn("drain", text),
    schema.alterTable("nodes").addColumn("removed_at", integer),
    // What a node that is removed leaves behind.
    indexer(db, "operations")("pinned", ["node_id"], sql`ended_at is null and node_id is not null`),
  ];
}
