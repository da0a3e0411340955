// What a worker's role may do in the database: it reads and changes records, and has no right on documents,
// counters and the audit log, which belong to the servers.

import { FormationError } from "@formation-mcp/contract";
import { beginExclusive, withAdminClient } from "./admin-client.ts";
import { qualified, type Schemas } from "./dialect.ts";
import { type PostgresOptions, schemasOf } from "./options.ts";
import type { TransactionPool } from "./pool.ts";

const ROLE_NAME = /^[a-z_][a-z0-9_-]{0,62}$/i;

/**
 * Grants a role what a worker needs and revokes everything else. A worker may not submit, and may not change
 * the owner of a record or what was asked for. Of the documents it sees only which artifacts they name.
 * @throws FormationError `invalid` for a bad name; else as `migratePostgres` does.
 */
export async function grantWorker(options: PostgresOptions, role: string): Promise<void> {
  const schemas = schemasOf(options.schema);
  if (!ROLE_NAME.test(role)) throw new FormationError("invalid", "This is no name of a role.");
  const to = `"${role}"`;
  await withAdminClient(options, async (client) => {
    await beginExclusive(client, schemas);
    await client.query(
      `REVOKE ALL ON ALL TABLES IN SCHEMA "${schemas.records}", "${schemas.private}" FROM ${to}`,
    );
    await client.query(`REVOKE ALL ON SCHEMA "${schemas.private}" FROM ${to}`);
    await client.query(`GRANT USAGE ON SCHEMA "${schemas.records}" TO ${to}`);
    for (const [table, rights] of Object.entries(WORKER_RIGHTS)) {
      await client.query(`GRANT ${rights} ON ${qualified(schemas, table)} TO ${to}`);
    }
    await client.query(`GRANT USAGE, SELECT ON SEQUENCE "${schemas.records}".revision TO ${to}`);
    await client.query("COMMIT");
  });
}

/** What a node writes about itself. Only an admin writes whether it is cordoned or drained. */
const NODE_COLUMNS = "name, labels, capacity, engine, heartbeat_at, pid, program, draining";

const changing = (...columns: string[]) =>
  `SELECT, DELETE, UPDATE (version, updated_at, ${columns.join(", ")})`;

/** What claiming, settling, reconciling and sweeping do, by table. */
const WORKER_RIGHTS = {
  operations: changing(
    ...["state", "attempt", "send", "sent_at", "claimed_by", "lease_until", "run_at", "cancel_requested_at"],
    ...["vcpus", "memory_mb", "desire_from", "progress", "error", "started_at", "ended_at", "expires_at"],
  ),
  builds: changing(
    ...["state", "image", "archive", "warnings", "error", "node_id", "used_at", "started_at", "ended_at"],
  ),
  deployments: changing("state", "machine_id", "error", "ended_at"),
  instances: changing(
    ...["desired", "state", "node_id", "deployment_id", "machine_id", "build_id", "config", "warnings"],
    ...["observed", "error"],
  ),
  instance_metadata: "SELECT, INSERT, DELETE",
  nodes:
    `SELECT, INSERT (id, version, created_at, updated_at, ${NODE_COLUMNS}), ` +
    `UPDATE (version, updated_at, removed_at, ${NODE_COLUMNS})`,
  idempotency: "SELECT, DELETE, UPDATE (operation)",
  document_artifacts: "SELECT",
  meta: "SELECT",
} as const;

/** Whether this connection's role sees the private schema: a server's does, a worker's does not. */
export async function seesPrivate(pool: TransactionPool, schemas: Schemas): Promise<boolean> {
  const [row] = await pool.query<{ sees: boolean | null }>(
    `SELECT has_schema_privilege(to_regnamespace('"${schemas.private}"'), 'USAGE') AS sees`,
  );
  return row?.sees === true;
}
