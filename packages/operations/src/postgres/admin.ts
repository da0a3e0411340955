// What is done to a PostgreSQL database before it is used: its two schemas, the migrations under one lock, and what a
// worker's role may.

import { type Clock, FormationError, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { Client } from "pg";
import { isCurrent, migrate, schemaVersion } from "../migrations/migrate.ts";
import { type Query, queries, type Result, type Script } from "../sql/script.ts";
import { compiler, placed, type Schemas } from "./dialect.ts";
import { asFormationError } from "./errors.ts";
import { connectionTo, type Transactions } from "./pool.ts";

export interface PostgresOptions {
  /** `postgres://role@host:port/database`. */
  url: string;
  /** Instead of one in the URL. */
  password?: string;
  /** The schema of the records. Default `formation`. */
  schema?: string;
  clock?: Clock;
  logger?: Logger;
}

const NAME = /^[a-z_][a-z0-9_]{0,49}$/;

export function schemasOf(schema = "formation"): Schemas {
  if (NAME.test(schema)) return { records: schema, private: `${schema}_private` };
  throw new FormationError("invalid", "A schema is named with small letters, digits and underscores.");
}

export function urlOf({ url, password }: PostgresOptions): string {
  if (password === undefined) return url;
  const parsed = new URL(url);
  parsed.password = encodeURIComponent(password);
  return parsed.href;
}

/**
 * Makes the two schemas, or brings them up to date, as the role that is to own them. Several processes may do so at once.
 * @throws FormationError `unavailable` if the database cannot be reached or was made by a newer program; `forbidden` if the
 *   role may not.
 */
export async function migratePostgres(options: PostgresOptions): Promise<{ from: number; to: number }> {
  const { clock = systemClock, logger = silentLogger } = options;
  const schemas = schemasOf(options.schema);
  return await administer(options, async (client) => {
    const q = queries(compiler(schemas))(clock.now());
    // Most opens find a current database and must not wait for who migrates.
    if ((await isThere(client, schemas)) && isCurrent(await run(client, schemaVersion(q)))) {
      const to = await run(client, schemaVersion(q));
      return { from: to, to };
    }
    await beginAlone(client, schemas);
    for (const text of prepared(schemas)) await client.query(text);
    const moved = await run(client, migrate(q));
    await client.query(artifactsView(schemas));
    await client.query("COMMIT");
    if (moved.from !== moved.to) {
      logger.log(moved.from === 0 ? "debug" : "info", "The database was migrated.", { ...moved });
    }
    return moved;
  });
}

/**
 * Gives a role what a worker needs of the records and nothing else: it may not submit, nor change whose a record is or
 * what was asked for, and has no right on documents, counters and the audit log. Of the documents it sees which artifacts
 * they name.
 * @throws FormationError as {@link migratePostgres} does.
 */
export async function grantWorker(options: PostgresOptions, role: string): Promise<void> {
  const schemas = schemasOf(options.schema);
  if (!/^[a-z_][a-z0-9_-]{0,62}$/i.test(role))
    throw new FormationError("invalid", "This is no name of a role.");
  const to = `"${role}"`;
  await administer(options, async (client) => {
    await beginAlone(client, schemas);
    await client.query(
      `REVOKE ALL ON ALL TABLES IN SCHEMA "${schemas.records}", "${schemas.private}" FROM ${to}`,
    );
    await client.query(`REVOKE ALL ON SCHEMA "${schemas.private}" FROM ${to}`);
    await client.query(`GRANT USAGE ON SCHEMA "${schemas.records}" TO ${to}`);
    for (const [table, rights] of Object.entries(RIGHTS)) {
      await client.query(`GRANT ${rights} ON ${placed(schemas, table)} TO ${to}`);
    }
    await client.query(`GRANT USAGE, SELECT ON SEQUENCE "${schemas.records}".revision TO ${to}`);
    await client.query("COMMIT");
  });
}

/** What a node says of itself; whether it is cordoned or drained an admin says. */
const NODE = "name, labels, capacity, engine, heartbeat_at, pid, program, draining";

const changing = (...columns: string[]) =>
  `SELECT, DELETE, UPDATE (version, updated_at, ${columns.join(", ")})`;

/** What claiming, settling, reconciling and sweeping do. Whose a record is and what was asked for nobody changes. */
const RIGHTS = {
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
  nodes: `SELECT, INSERT (id, version, created_at, updated_at, ${NODE}), UPDATE (version, updated_at, removed_at, ${NODE})`,
  idempotency: "SELECT, DELETE, UPDATE (operation)",
  document_artifacts: "SELECT",
  meta: "SELECT",
} as const;

/** What the migrations take for granted: the schemas, SQLite's json_extract, and the count of commits. */
function prepared({ records, private: hidden }: Schemas): string[] {
  return [
    ...[records, hidden].map((name) => `CREATE SCHEMA IF NOT EXISTS "${name}"`),
    `SET LOCAL search_path = "${records}"`,
    `CREATE SEQUENCE IF NOT EXISTS "${records}".revision`,
    // Only of numbers, which read the same in every session: that is what makes it immutable.
    `CREATE OR REPLACE FUNCTION "${records}".json_extract(document text, path text) RETURNS bigint
      LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
      AS $$ SELECT (document::pg_catalog.json OPERATOR(pg_catalog.#>>)
        pg_catalog.string_to_array(pg_catalog.substr(path, 3), '.'))::bigint $$`,
  ];
}

/** It runs with the rights of its owner: a worker sees the digests that documents name, and no document. */
function artifactsView(schemas: Schemas): string {
  return `CREATE OR REPLACE VIEW ${placed(schemas, "document_artifacts")} WITH (security_barrier) AS
    SELECT artifact, expires_at FROM ${placed(schemas, "documents")} WHERE artifact IS NOT NULL`;
}

/** Of all who change tables and rights only one is in a transaction that begins so. */
async function beginAlone(client: Client, { records }: Schemas): Promise<void> {
  await client.query("BEGIN");
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`${records} migrate`]);
}

async function isThere(client: Client, schemas: Schemas): Promise<boolean> {
  const { rows } = await client.query("SELECT to_regclass($1) IS NOT NULL AS there", [
    placed(schemas, "meta"),
  ]);
  return rows[0]?.there === true;
}

/** Whether this role sees what only servers see. */
export async function hasPrivate(transactions: Transactions, schemas: Schemas): Promise<boolean> {
  const [row] = await transactions.ask<{ sees: boolean | null }>(
    `SELECT has_schema_privilege(to_regnamespace('"${schemas.private}"'), 'USAGE') AS sees`,
  );
  return row?.sees === true;
}

/** New rows are numbered after those that an import brought, and questions are planned for as many as there are. */
export async function numberOn(transactions: Transactions, schemas: Schemas): Promise<void> {
  const numbered = {
    operations: "seq",
    builds: "seq",
    deployments: "seq",
    instances: "seq",
    documents: "seq",
    audit: "id",
  };
  for (const [table, column] of Object.entries(numbered)) {
    const name = placed(schemas, table);
    await transactions.ask(
      `SELECT setval(pg_get_serial_sequence('${name}', '${column}'), max("${column}")) FROM ${name}`,
    );
    await transactions.ask(`ANALYZE ${name}`);
  }
}

/** The version of the database. @throws FormationError `unavailable` unless it is this program's. */
export function* versionOf(q: Query): Script<number> {
  const version = yield* schemaVersion(q);
  if (isCurrent(version)) return version;
  throw new FormationError("unavailable", "The database is older than this program.", {
    remedy: "Migrate it: formation-mcp-http migrate.",
  });
}

/** On a connection of its own, without limits of time: an index of a large table takes its time. */
async function administer<T>(options: PostgresOptions, act: (client: Client) => Promise<T>): Promise<T> {
  const client = new Client({ ...connectionTo(urlOf(options)), connectionTimeoutMillis: 5000 });
  client.on("error", () => {}); // It fails the query too.
  try {
    await client.connect();
    return await act(client);
  } catch (error) {
    throw asFormationError(error);
  } finally {
    await client.end().catch(() => {});
  }
}

async function run<T>(client: Client, script: Script<T>): Promise<T> {
  let next = script.next();
  while (!next.done) {
    const { sql, parameters } = next.value;
    const { rows, rowCount } = await client.query(sql, [...parameters]);
    next = script.next({ rows, changes: rowCount ?? 0 } satisfies Result);
  }
  return next.value;
}
