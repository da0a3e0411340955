// What is made before the first server starts, and again after an update: the tables and who may use them, and what NATS
// keeps for us. Servers and workers refuse tables that are older than they.

import { FormationError, type Logger } from "@formation-mcp/contract";
import { atDatabase } from "../open/connect-errors.ts";
import { openLayout } from "../open/layout.ts";
import { natsUserOf } from "../open/nats-user.ts";
import { openRecords, serverRecords } from "../open/records.ts";
import type { HttpConfiguration } from "../settings/http-configuration.ts";

/** What workers log in as, unless somebody says otherwise; deploy/postgres/roles.sql makes it. */
const WORKER_ROLE = "formation_worker";

/**
 * Brings the database up to date, under a lock, grants the workers' role what it may have, and makes what NATS lacks. Safe
 * beside running servers.
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
  const records = await openRecords(serverRecords(configuration, openLayout(configuration.stateDir), logger));
  await records.close();
}

/** The entry of the servers in the configuration of NATS; makes their key if need be. */
export function serverNatsUser(
  key: string | undefined,
  environment: Record<string, string | undefined> = process.env,
): Promise<string> {
  return natsUserOf({ role: "server" }, key ?? environment["FORMATION_NATS_NKEY"]);
}
