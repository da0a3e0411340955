// Creates or migrates the tables in PostgreSQL with the workers' rights, and the streams at NATS: before the
// first server starts, and after an update. Servers and workers refuse tables that are older than they are.

import { FormationError, type Logger } from "@formation-mcp/contract";
import { openBackends, serverBackends } from "../open/backends.ts";
import { atDatabase } from "../open/connect-errors.ts";
import { openLayout } from "../open/layout.ts";
import type { HttpConfiguration } from "../settings/http-configuration.ts";

/** The database role of workers by default; deploy/postgres/roles.sql creates it. */
const WORKER_ROLE = "formation_worker";

/**
 * Migrates the database under a lock, grants the workers' role its rights, and creates what NATS lacks. Safe
 * while servers run.
 * @throws FormationError `unavailable` if one can't be reached, `invalid` without a database.
 */
export async function migrate(
  configuration: HttpConfiguration,
  logger: Logger,
  workerRole: string = WORKER_ROLE,
): Promise<void> {
  const { database } = configuration.shared;
  if (!database) {
    throw new FormationError(
      "invalid",
      "There is no database to migrate: FORMATION_DATABASE_URL is not set.",
      {
        remedy: "Set it; SQLite in the state directory is migrated by whoever opens it.",
      },
    );
  }
  const { grantWorker, migratePostgres } = await import("@formation-mcp/operations/postgres");
  await atDatabase(database, (url) => migratePostgres({ url, logger }));
  await atDatabase(database, (url) => grantWorker({ url }, workerRole));
  const backends = await openBackends(
    serverBackends(configuration, openLayout(configuration.stateDir), logger),
  );
  await backends.close();
}
