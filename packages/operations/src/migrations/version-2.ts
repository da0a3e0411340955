// Version 2 of the database: documents, counters, the audit log, and the resources of instances as columns
// for quotas.

import { type Compilable, type Kysely, type SqlBool, sql } from "kysely";
import type { Tables } from "../sql/schema.ts";
import { columns, indexer, integer, text } from "./columns.ts";

export function secondMigration(db: Kysely<Tables>): Compilable[] {
  return [...documents(db), ...counters(db), ...audit(db), ...resources(db)];
}

function documents(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "documents");
  const name = db.schema.createIndex("documents_name").unique().on("documents").columns(["kind", "id"]);
  const alias = db.schema
    .createIndex("documents_alias")
    .unique()
    .on("documents")
    .columns(["kind", "alias"])
    .where(sql<SqlBool>`alias is not null`);
  return [
    columns(
      db.schema.createTable("documents").addColumn("seq", integer, (c) => c.primaryKey()),
      {
        kind: text,
        id: text,
        "owner?": text,
        "group?": text,
        "alias?": text,
        "artifact?": text,
        doc: text,
        version: integer,
        created_at: integer,
        updated_at: integer,
        "expires_at?": integer,
      },
    ),
    name,
    alias,
    on("kind", ["kind", "seq"]),
    on("owner", ["owner", "kind", "seq"], sql`owner is not null`),
    on("group", ["group", "kind", "seq"], sql`"group" is not null`),
    on("expires", ["expires_at"], sql`expires_at is not null`),
    on("artifact", ["artifact"], sql`artifact is not null`),
  ];
}

function counters(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "counters");
  return [
    columns(
      db.schema.createTable("counters").addColumn("key", text, (c) => c.primaryKey()),
      { window_start: integer, spent: integer, expires_at: integer },
    ),
    on("expires", ["expires_at"]),
  ];
}

function audit(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "audit");
  return [
    columns(
      db.schema.createTable("audit").addColumn("id", integer, (c) => c.primaryKey()),
      {
        chain: text,
        seq: integer,
        at: integer,
        "owner?": text,
        "credential?": text,
        action: text,
        "target?": text,
        outcome: text,
        "address?": text,
        "trace_id?": text,
        hash: text,
      },
    ),
    db.schema.createIndex("audit_line").unique().on("audit").columns(["chain", "seq"]),
    on("at", ["at", "id"]),
    on("owner", ["owner", "at", "id"], sql`owner is not null`),
    // Searches are for calls that failed or were refused; the other lines take no room in this index.
    on("refused", ["outcome", "at", "id"], sql`outcome not in ('ok', 'begun')`),
    columns(db.schema.createTable("audit_seals"), { chain: text, seq: integer, hash: text, at: integer }),
    db.schema.createIndex("audit_seals_line").unique().on("audit_seals").columns(["chain", "seq"]),
  ];
}

/**
 * An instance's resources as columns generated from its configuration: the sum over an owner is read from an
 * index.
 */
function resources(db: Kysely<Tables>): Compilable[] {
  const names = ["vcpus", "memory_mb", "disk_gb"];
  const [onInstances, onDeployments] = [indexer(db, "instances"), indexer(db, "deployments")];
  return [
    ...names.map((name) =>
      db.schema
        .alterTable("instances")
        .addColumn(name, integer, (c) =>
          c.generatedAlwaysAs(sql`json_extract(config, ${sql.lit(`$.resources.${name}`)})`),
        ),
    ),
    onInstances("usage", ["owner", ...names], sql`state <> 'deleted'`),
    onDeployments(
      "replacing",
      ["owner", "instance_id"],
      sql`replace = 1 and state in ('queued', 'deploying')`,
    ),
  ];
}
