// Version 3 of the database: the labels that operations require, cordon, drain and removal of nodes, and the
// digest under which other nodes find a build's image.

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
    // The unfinished operations of a node that is removed.
    indexer(db, "operations")("pinned", ["node_id"], sql`ended_at is null and node_id is not null`),
  ];
}
