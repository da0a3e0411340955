// Errors of opening a shared database or NATS, with the place and the setting that matters. The drivers' own
// messages name neither, because callers of a server see them too.

import { FormationError } from "@formation-mcp/contract";
import { type Database, databaseUrl, type Nats } from "../settings/shared.ts";
import { databaseAddress } from "./target.ts";

/** Calls `act` with the database's URL, its password included. The error of a failure names the place. */
export async function atDatabase<T>(database: Database, act: (url: string) => Promise<T>): Promise<T> {
  const url = databaseUrl(database);
  try {
    return await act(url);
  } catch (error) {
    if (!(error instanceof FormationError)) throw error;
    const { code, message, cause, details } = error;
    const where = `${message.replace(/\.$/, "")} (PostgreSQL at ${databaseAddress(url)}).`;
    throw new FormationError(code, where, { ...details, cause });
  }
}

/**
 * Calls `act`, which opens or creates streams at NATS. The error of a failure names the servers and the
 * number of copies.
 */
export async function atNats<T>({ servers, replicas }: Nats, act: () => Promise<T>): Promise<T> {
  try {
    return await act();
  } catch (error) {
    if (!(error instanceof FormationError) || error.code !== "unavailable") throw error;
    const { code, message, cause } = error;
    throw new FormationError(code, `${message.replace(/\.$/, "")} (NATS at ${servers.join(", ")}).`, {
      cause,
      remedy: `Check that nats-server runs there with JetStream and has room on its disk${
        replicas > 1
          ? `; FORMATION_NATS_REPLICAS=${replicas} needs ${replicas} servers that know each other (deploy/nats/nats-cluster.conf), one alone takes 1`
          : ""
      }.`,
    });
  }
}
