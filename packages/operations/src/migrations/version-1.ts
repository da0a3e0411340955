// Version 1 of the database: the first tables, and an index for every query on them.

import { type Compilable, type Kysely, type SqlBool, sql } from "kysely";
import type { Tables } from "../sql/schema.ts";
import { columns, indexer, integer, recordTable, text } from "./columns.ts";

export function firstMigration(db: Kysely<Tables>): Compilable[] {
  return [...operations(db), ...builds(db), ...deployments(db), ...instances(db), ...others(db)];
}

function operations(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "operations");
  return [
    recordTable(db, "operations", {
      owner: text,
      tool: text,
      state: text,
      subject: text,
      input: text,
      target_id: text,
      serial_key: text,
      "node_id?": text,
      vcpus: integer,
      memory_mb: integer,
      disk_gb: integer,
      attempt: integer,
      send: integer,
      sent_at: integer,
      "claimed_by?": text,
      "lease_until?": integer,
      deadline_at: integer,
      run_at: integer,
      "cancel_requested_at?": integer,
      "desire_from?": text,
      "desire_to?": text,
      "progress?": text,
      "error?": text,
      "started_at?": integer,
      "ended_at?": integer,
      "expires_at?": integer,
    }),
    // Listing.
    on("owner", ["owner", "seq"]),
    on("owner_state", ["owner", "state", "seq"]),
    on("state", ["state", "seq"]),
    on("serial_key", ["serial_key", "seq"]),
    on("target", ["target_id", "seq"], sql`target_id <> serial_key`),
    // The queue. A partial index does not grow with the operations that ended.
    on("queue", ["subject", "seq"], sql`state = 'queued'`),
    on("unfinished", ["serial_key", "seq"], sql`ended_at is null`),
    // The state comes first in these two, so that the planner prefers them to the index of all states.
    on("sent", ["state", "sent_at"], sql`state = 'queued'`),
    on("lease", ["state", "lease_until"], sql`state = 'running'`),
    on("deadline", ["deadline_at"], sql`ended_at is null`),
    on("ended", ["ended_at"], sql`ended_at is not null`),
  ];
}

function builds(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "builds");
  return [
    recordTable(db, "builds", {
      owner: text,
      name: text,
      state: text,
      formfile: text,
      "context_digest?": text,
      "image?": text,
      warnings: text,
      metadata: text,
      "error?": text,
      "node_id?": text,
      used_at: integer,
      operation_id: text,
      "started_at?": integer,
      "ended_at?": integer,
    }),
    on("owner", ["owner", "seq"]),
    on("owner_state", ["owner", "state", "seq"]),
    on("owner_name", ["owner", "name", "seq"]),
    on("state", ["state", "seq"]),
    on("used", ["used_at"], sql`ended_at is not null`),
    on("context", ["context_digest"], sql`context_digest is not null`),
  ];
}

function deployments(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "deployments");
  return [
    recordTable(db, "deployments", {
      owner: text,
      build_id: text,
      instance_id: text,
      instance_name: text,
      state: text,
      config: text,
      replace: integer,
      "machine_id?": text,
      "error?": text,
      operation_id: text,
      "ended_at?": integer,
    }),
    on("owner", ["owner", "seq"]),
    on("instance", ["instance_id", "seq"]),
    on("build", ["build_id", "seq"]),
  ];
}

function instances(db: Kysely<Tables>): Compilable[] {
  const on = indexer(db, "instances");
  return [
    recordTable(db, "instances", {
      owner: text,
      name: text,
      desired: text,
      state: text,
      "node_id?": text,
      "deployment_id?": text,
      "machine_id?": text,
      build_id: text,
      config: text,
      warnings: text,
      "observed?": text,
      "error?": text,
    }),
    on("owner", ["owner", "seq"], sql`state <> 'deleted'`),
    on("owner_state", ["owner", "state", "seq"]),
    on("state", ["state", "seq"]),
    on("node", ["node_id", "seq"]),
    on("build", ["build_id"], sql`state <> 'deleted'`),
    on("deleted", ["state", "updated_at"], sql`state = 'deleted'`),
    db.schema
      .createIndex("instances_name")
      .unique()
      .on("instances")
      .columns(["owner", "name"])
      .where(sql<SqlBool>`state <> 'deleted'`),
    db.schema
      .createTable("instance_metadata")
      .addColumn("key", text, (c) => c.notNull())
      .addColumn("value", text, (c) => c.notNull())
      .addColumn("owner", text, (c) => c.notNull())
      .addColumn("instance_seq", integer, (c) => c.notNull()),
    db.schema
      .createIndex("instance_metadata_pair")
      .on("instance_metadata")
      .columns(["key", "value", "owner", "instance_seq"]),
    db.schema.createIndex("instance_metadata_instance").on("instance_metadata").column("instance_seq"),
  ];
}

function others(db: Kysely<Tables>): Compilable[] {
  return [
    columns(
      db.schema.createTable("nodes").addColumn("id", text, (c) => c.primaryKey()),
      {
        version: integer,
        created_at: integer,
        updated_at: integer,
        name: text,
        labels: text,
        capacity: text,
        engine: text,
        heartbeat_at: integer,
        pid: integer,
        program: text,
        draining: integer,
      },
    ),
    columns(db.schema.createTable("idempotency"), {
      owner: text,
      tool: text,
      key: text,
      input_digest: text,
      operation_id: text,
      "operation?": text,
      expires_at: integer,
    }),
    db.schema.createIndex("idempotency_key").unique().on("idempotency").columns(["owner", "tool", "key"]),
    db.schema.createIndex("idempotency_operation").on("idempotency").column("operation_id"),
    db.schema
      .createIndex("idempotency_open")
      .on("idempotency")
      .column("operation_id")
      .where(sql<SqlBool>`operation is null`),
    db.schema.createIndex("idempotency_expires").on("idempotency").column("expires_at"),
  ];
}
