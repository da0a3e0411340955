// The PostgreSQL driver: the same scripts as everywhere, each one transaction at READ COMMITTED that takes its own locks, by
// any number of processes and the time of the one database. Records are in one schema; what only servers may see is in another.

import { type Clock, type Logger, silentLogger } from "@formation-mcp/contract";
import type { Store } from "./port.ts";
import { hasPrivate, migratePostgres, numberOn, schemasOf, urlOf, versionOf } from "./postgres/admin.ts";
import { compiler, locks, READER } from "./postgres/dialect.ts";
import { asFormationError } from "./postgres/errors.ts";
import { Transactions } from "./postgres/pool.ts";
import { Revision } from "./postgres/revision.ts";
import { queries } from "./sql/script.ts";
import { storeOver } from "./store.ts";

export { exportStore, importStore, isHalfImported } from "./export-import.ts";
export { grantWorker, migratePostgres, type PostgresOptions } from "./postgres/admin.ts";

export interface PostgresStoreOptions {
  /** `postgres://role@host:port/database`, with `?sslmode=verify-full&sslrootcert=…` for TLS. */
  url: string;
  /** Instead of one in the URL. */
  password?: string;
  /** The schema of the records; what only servers see is in `<schema>_private`. Default `formation`. */
  schema?: string;
  /** Connections at most. Default 10. */
  poolSize?: number;
  /** After so long a statement fails, and a transaction that its process left open. Default 15,000 ms. */
  statementTimeoutMs?: number;
  /** Brings the database up to date first; false for a role that may not, a worker's. Default true. */
  migrate?: boolean;
  /** Others' writes show in `revision()` at most so much later. Default 250 ms. */
  pollMs?: number;
  /** A test's. Default: the database's clock, whatever this machine's shows. */
  clock?: Clock;
  logger?: Logger;
}

/**
 * Opens the store in a PostgreSQL database (15 or later); any number of processes may.
 * @throws FormationError `unavailable` if it cannot be reached, is newer than this program, or is older and not migrated.
 */
export async function openPostgresStore(options: PostgresStoreOptions): Promise<Store> {
  const { poolSize = 10, statementTimeoutMs = 15_000, pollMs = 250 } = options;
  const { clock, logger = silentLogger } = options;
  const schemas = schemasOf(options.schema);
  if (options.migrate ?? true) await migratePostgres(options);
  const transactions = new Transactions(
    { url: urlOf(options), searchPath: schemas.records, poolSize, statementTimeoutMs, logger, clock },
    `"${schemas.records}".revision`,
  );
  try {
    const whole = await hasPrivate(transactions, schemas);
    const reader = queries(compiler(schemas), READER, whole);
    const writer = queries(compiler(schemas), locks(schemas), whole);
    await transactions.read((now) => versionOf(reader(now)));
    const revision = new Revision(transactions, schemas, pollMs);
    return storeOver({
      clock: { now: () => transactions.now() },
      read: (script) => transactions.read((now) => script(reader(now))),
      async write(script, made) {
        const look = made && ((now: number) => made(reader(now)));
        const ended = await transactions.write((now) => script(writer(now)), look);
        if (ended.revision !== undefined) revision.saw(ended.revision);
        return ended.value;
      },
      async alone(statement) {
        const rows = await transactions.alone((now) => statement(writer(now)));
        for (const { revision: count } of rows) revision.saw(count);
        return rows.map(({ row }) => row);
      },
      revision: () => revision.now(),
      written: () => revision.exactly(),
      numberOn: () => numberOn(transactions, schemas),
      close: () => transactions.close(),
    });
  } catch (error) {
    await transactions.close();
    throw asFormationError(error);
  }
}
