// The versions of the database in their order. A released migration is never changed; a new one is appended.

import { FormationError } from "@formation-mcp/contract";
import { all, first, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { firstMigration } from "./version-1.ts";
import { secondMigration } from "./version-2.ts";
import { thirdMigration } from "./version-3.ts";

const MIGRATIONS = [firstMigration, secondMigration, thirdMigration] as const;

/** The version of a database that is up to date: the number of migrations. */
export const SCHEMA_VERSION = MIGRATIONS.length;

/** Brings an empty or older database up to date. The driver runs it inside one write transaction. */
export function* migrate(tx: Transaction): TransactionScript<{ from: number; to: number }> {
  yield* run(
    tx.db.schema
      .createTable("meta")
      .ifNotExists()
      .addColumn("key", "text", (c) => c.primaryKey())
      .addColumn("value", "text", (c) => c.notNull()),
  );
  const from = yield* schemaVersion(tx);
  for (const migration of MIGRATIONS.slice(from)) {
    for (const statement of migration(tx.db)) yield* all(statement);
  }
  const value = String(MIGRATIONS.length);
  yield* run(
    tx.db
      .insertInto("meta")
      .values({ key: "schema", value })
      .onConflict((conflict) => conflict.column("key").doUpdateSet({ value })),
  );
  return { from, to: MIGRATIONS.length };
}

/**
 * The version of a database whose `meta` table exists; 0 if it is empty.
 * @throws FormationError `unavailable` if a newer program made it.
 */
export function* schemaVersion(tx: Transaction): TransactionScript<number> {
  const row = yield* first(tx.db.selectFrom("meta").select("value").where("key", "=", "schema"));
  const version = Number(row?.value ?? 0);
  if (version > MIGRATIONS.length) {
    throw new FormationError(
      "unavailable",
      `The database has version ${version}; this program knows versions up to ${MIGRATIONS.length}.`,
      { remedy: "Update formation-mcp: a newer one has already been used with this state directory." },
    );
  }
  return version;
}

/** Whether a database of this version needs no migration. */
export function isCurrent(version: number): boolean {
  return version === MIGRATIONS.length;
}
