// The PostgreSQL driver. Any number of processes share the database. Each script of the store runs as one
// transaction at READ COMMITTED, takes the locks that it names, and uses the database's time. Records are in
// one schema; documents, counters and the audit log, which only servers see, are in another.

import { type Clock, type Logger, silentLogger } from "@formation-mcp/contract";
import type { Store } from "./port.ts";
import { compiler, READ_LOCKS, writeLocks } from "./postgres/dialect.ts";
import { asFormationError } from "./postgres/errors.ts";
import { migratePostgres, requireCurrent } from "./postgres/migrate.ts";
import { restartNumbering } from "./postgres/numbering.ts";
import { schemasOf, urlOf } from "./postgres/options.ts";
import { TransactionPool } from "./postgres/pool.ts";
import { RevisionPoller } from "./postgres/revision.ts";
import { seesPrivate } from "./postgres/worker-grants.ts";
import { createTransactions } from "./sql/script.ts";
import { createStore } from "./store.ts";

export { exportStore, importStore, isHalfImported } from "./export-import.ts";
export { migratePostgres } from "./postgres/migrate.ts";
export type { PostgresOptions } from "./postgres/options.ts";
export { grantWorker } from "./postgres/worker-grants.ts";

export interface PostgresStoreOptions {
  /** `postgres://role@host:port/database`, with `?sslmode=verify-full&sslrootcert=…` for TLS. */
  url: string;
  /** Replaces the password in the URL. */
  password?: string;
  /** The schema of the records; the private one is `<schema>_private`. Default `formation`. */
  schema?: string;
  /** The most connections. Default 10. */
  poolSize?: number;
  /** A statement fails after so long, and so does an idle open transaction. Default 15,000 ms. */
  statementTimeoutMs?: number;
  /** Brings the database up to date first; false for a role that may not, a worker's. Default true. */
  migrate?: boolean;
  /** Writes of other processes show in `revision()` after at most so long. Default 250 ms. */
  pollMs?: number;
  /** For tests. Default: the database's clock, whatever this machine's clock shows. */
  clock?: Clock;
  logger?: Logger;
}

/**
 * Opens the store in a PostgreSQL database, version 15 or later.
 * @throws FormationError `unavailable` if the database cannot be reached, is newer than this program, or is
 *   older and `migrate` is false.
 */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<Store> {
  const { poolSize = 10, statementTimeoutMs = 15_000, pollMs = 250 } = options;
  const { clock, logger = silentLogger } = options;
  const schemas = schemasOf(options.schema);
  if (options.migrate ?? true) await migratePostgres(options);
  const pool = new TransactionPool(
    { url: urlOf(options), searchPath: schemas.records, poolSize, statementTimeoutMs, logger, clock },
    `"${schemas.records}".revision`,
  );
  try {
    const whole = await seesPrivate(pool, schemas);
    const reader = createTransactions(compiler(schemas), READ_LOCKS, whole);
    const writer = createTransactions(compiler(schemas), writeLocks(schemas), whole);
    await pool.read((now) => requireCurrent(reader(now)));
    const revision = new RevisionPoller(pool, schemas, pollMs);
    return createStore({
      clock: { now: () => pool.now() },
      read: (script) => pool.read((now) => script(reader(now))),
      async write(script, findResult) {
        const find = findResult && ((now: number) => findResult(reader(now)));
        const written = await pool.write((now) => script(writer(now)), find);
        if (written.revision !== undefined) revision.saw(written.revision);
        return written.value;
      },
      async single(statement) {
        const rows = await pool.single((now) => statement(writer(now)));
        for (const { revision: count } of rows) revision.saw(count);
        return rows.map(({ row }) => row);
      },
      revision: () => revision.now(),
      exactRevision: () => revision.exactly(),
      restartNumbering: () => restartNumbering(pool, schemas),
      close: () => pool.close(),
    });
  } catch (error) {
    await pool.close();
    throw asFormationError(error);
  }
}
