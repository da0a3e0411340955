// How a PostgreSQL database gets its two schemas and its current version: all migrations in one transaction,
// under one lock.

import { FormationError, silentLogger, systemClock } from "@formation-mcp/contract";
import type { Client } from "pg";
import { isCurrent, migrate, schemaVersion } from "../migrations/migrate.ts";
import { createTransactions, type Result, type Transaction, type TransactionScript } from "../sql/script.ts";
import { beginExclusive, withAdminClient } from "./admin-client.ts";
import { compiler, qualified, type Schemas } from "./dialect.ts";
import { type PostgresOptions, schemasOf } from "./options.ts";

/**
 * Makes the two schemas, or brings them up to date, as the role that is to own them. Several processes may do
 * so at once.
 * @throws FormationError `unavailable` if the database cannot be reached or a newer program made it;
 *   `forbidden` if the role may not.
 */
export async function migratePostgres(options: PostgresOptions): Promise<{ from: number; to: number }> {
  const { clock = systemClock, logger = silentLogger } = options;
  const schemas = schemasOf(options.schema);
  return await withAdminClient(options, async (client) => {
    const tx = createTransactions(compiler(schemas))(clock.now());
    // A database is usually current, and then it must not wait for the lock of a migration.
    if (await hasMetaTable(client, schemas)) {
      const version = await run(client, schemaVersion(tx));
      if (isCurrent(version)) return { from: version, to: version };
    }
    await beginExclusive(client, schemas);
    for (const text of prerequisites(schemas)) await client.query(text);
    const moved = await run(client, migrate(tx));
    await client.query(artifactsView(schemas));
    await client.query("COMMIT");
    if (moved.from !== moved.to) {
      logger.log(moved.from === 0 ? "debug" : "info", "The database was migrated.", { ...moved });
    }
    return moved;
  });
}

/** Checks that the database has this program's version. @throws FormationError `unavailable` */
export function* requireCurrent(tx: Transaction): TransactionScript<void> {
  if (isCurrent(yield* schemaVersion(tx))) return;
  throw new FormationError("unavailable", "The database is older than this program.", {
    remedy: "Migrate it: formation-mcp-http migrate.",
  });
}

/**
 * What the migrations take for granted: the schemas, SQLite's json_extract, and the sequence of revisions.
 */
function prerequisites({ records, private: hidden }: Schemas): string[] {
  return [
    ...[records, hidden].map((name) => `CREATE SCHEMA IF NOT EXISTS "${name}"`),
    `SET LOCAL search_path = "${records}"`,
    `CREATE SEQUENCE IF NOT EXISTS "${records}".revision`,
    // It returns numbers only. They read the same in every session, which allows IMMUTABLE.
    `CREATE OR REPLACE FUNCTION "${records}".json_extract(document text, path text) RETURNS bigint
      LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
      AS $$ SELECT (document::pg_catalog.json OPERATOR(pg_catalog.#>>)
        pg_catalog.string_to_array(pg_catalog.substr(path, 3), '.'))::bigint $$`,
  ];
}

/**
 * A view runs with its owner's rights: through it a worker sees the digests that documents name, and no
 * document.
 */
function artifactsView(schemas: Schemas): string {
  return `CREATE OR REPLACE VIEW ${qualified(schemas, "document_artifacts")} WITH (security_barrier) AS
    SELECT artifact, expires_at FROM ${qualified(schemas, "documents")} WHERE artifact IS NOT NULL`;
}

async function hasMetaTable(client: Client, schemas: Schemas): Promise<boolean> {
  const { rows } = await client.query("SELECT to_regclass($1) IS NOT NULL AS there", [
    qualified(schemas, "meta"),
  ]);
  return rows[0]?.there === true;
}

async function run<T>(client: Client, script: TransactionScript<T>): Promise<T> {
  let next = script.next();
  while (!next.done) {
    const { sql, parameters } = next.value;
    const { rows, rowCount } = await client.query(sql, [...parameters]);
    next = script.next({ rows, changes: rowCount ?? 0 } satisfies Result);
  }
  return next.value;
}
