// What is said where a database or NATS that is shared can't be opened: which one, and what a setting has to do with it. The
// drivers' own messages, which callers of a server see too, name neither.

import { FormationError } from "@formation-mcp/contract";
import { databaseUrl, type SharedConfiguration } from "../settings/shared-configuration.ts";
import { placeOf } from "./target.ts";

/** Does something at the database, with its password; what fails there names the place. */
export async function atDatabase<T>(
  database: NonNullable<SharedConfiguration["database"]>,
  act: (url: string) => Promise<T>,
): Promise<T> {
  const url = databaseUrl(database);
  try {
    return await act(url);
  } catch (error) {
    if (!(error instanceof FormationError)) throw error;
    const { code, message, cause, details } = error;
    const where = `${message.replace(/\.$/, "")} (PostgreSQL at ${placeOf(url)}).`;
    throw new FormationError(code, where, { ...details, cause });
  }
}

/** Makes or opens what NATS keeps; what fails there is no matter of waiting where copies are asked for that nobody can keep. */
export async function atNats<T>(
  { servers, replicas }: NonNullable<SharedConfiguration["nats"]>,
  act: () => Promise<T>,
): Promise<T> {
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
