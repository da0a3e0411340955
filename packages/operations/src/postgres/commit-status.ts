// Whether a transaction was committed whose connection broke while it committed: the server is asked by its
// transaction id.

import { setTimeout as delay } from "node:timers/promises";
import { Client, type ClientConfig } from "pg";
import { inDoubt } from "./errors.ts";

/** How long the server is asked, and how long between two tries, in milliseconds. */
const LOOKUP_MS = 10_000;
const LOOKUP_INTERVAL_MS = 100;

/** `pg_xact_status` refuses an id that this server has not reached yet with this SQLSTATE. */
const ID_IN_THE_FUTURE = "22023";

/**
 * Whether a transaction may have been committed; false if it certainly was not. "Committed" is no proof: a
 * server that crashed may have given the id of a lost transaction to another one.
 * @param isClosed ends the wait early.
 * @throws FormationError `unavailable` if the server does not answer.
 */
export async function mayBeCommitted(
  config: ClientConfig,
  transactionId: string,
  cause: unknown,
  isClosed: () => boolean,
): Promise<boolean> {
  const end = performance.now() + LOOKUP_MS;
  while (performance.now() < end && !isClosed()) {
    const status = await statusOf(config, transactionId).catch((error: { code?: string }) =>
      // This server lost its last transactions in a crash, or it is another server.
      error.code === ID_IN_THE_FUTURE ? "aborted" : "no answer",
    );
    if (status === "aborted") return false;
    if (status !== "in progress" && status !== "no answer") return true;
    await delay(LOOKUP_INTERVAL_MS);
  }
  throw inDoubt(cause);
}

async function statusOf(config: ClientConfig, transactionId: string): Promise<string | null> {
  const client = new Client(config);
  client.on("error", () => {}); // The query fails too.
  try {
    await client.connect();
    const query = "SELECT pg_xact_status($1::text::xid8) AS status";
    const { rows } = await client.query(query, [transactionId]);
    return rows[0]?.status ?? null;
  } finally {
    await client.end().catch(() => {});
  }
}
