// One connection for work on tables and rights. This folder knows PostgreSQL: how the store's scripts run
// there as transactions, how its SQL differs from SQLite's, and what its errors mean.

import { Client } from "pg";
import { adminConnectionConfig } from "./connection.ts";
import type { Schemas } from "./dialect.ts";
import { asFormationError } from "./errors.ts";
import { type PostgresOptions, urlOf } from "./options.ts";

/** Connects, runs `act`, and closes. Every failure is a FormationError. */
export async function withAdminClient<T>(
  options: PostgresOptions,
  act: (client: Client) => Promise<T>,
): Promise<T> {
  const client = new Client(adminConnectionConfig(urlOf(options)));
  client.on("error", () => {}); // The query fails too.
  try {
    await client.connect();
    return await act(client);
  } catch (error) {
    throw asFormationError(error);
  } finally {
    await client.end().catch(() => {});
  }
}

/** Begins a transaction. Only one transaction at a time changes the tables and rights of a store. */
export async function beginExclusive(client: Client, { records }: Schemas): Promise<void> {
  await client.query("BEGIN");
  await client.query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", [`${records} migrate`]);
}
