// How a connection to PostgreSQL is configured: its URL, its limits of time, and how its values become
// numbers.

import type { ClientConfig } from "pg";

/** How long a connection may take to be made, in milliseconds. */
const CONNECT_MS = 5000;
/**
 * The server itself ends a slow statement; a server that does not answer is given up at most this much later.
 */
const EXTRA_QUERY_MS = 5000;

/** The type ids of int8, int2, int4 and numeric. */
const NUMBER_TYPES = new Set([20, 21, 23, 1700]);
const BOOLEAN_TYPE = 16;

/**
 * The part that every connection shares. Numbers and booleans of the database are converted; all else stays
 * text.
 */
function connectionConfig(url: string): ClientConfig {
  const asIs = (value: string) => value;
  const asBoolean = (value: string) => value === "t";
  return {
    connectionString: url,
    application_name: "formation-mcp",
    keepAlive: true,
    types: {
      getTypeParser: (type: number) =>
        NUMBER_TYPES.has(type) ? Number : type === BOOLEAN_TYPE ? asBoolean : asIs,
    } as never,
  };
}

/** A connection that runs scripts: every statement has a limit of time, and a fixed plan. */
export function scriptConnectionConfig(
  url: string,
  searchPath: string,
  statementTimeoutMs: number,
): ClientConfig {
  const settings = [
    `search_path=${searchPath}`,
    // Every query has its index, whatever its parameters are: planning it again each time costs more than
    // running it.
    "plan_cache_mode=force_generic_plan",
    "jit=off",
    // A bitmap scan would read the whole queue to find its oldest row, dead rows included.
    "enable_bitmapscan=off",
  ];
  return {
    ...connectionConfig(url),
    connectionTimeoutMillis: Math.min(statementTimeoutMs, CONNECT_MS),
    statement_timeout: statementTimeoutMs,
    query_timeout: statementTimeoutMs + Math.min(statementTimeoutMs, EXTRA_QUERY_MS),
    idle_in_transaction_session_timeout: statementTimeoutMs,
    options: settings.map((setting) => `-c ${setting}`).join(" "),
  };
}

/** A connection for administration. It has no limit per statement: an index of a large table takes long. */
export function adminConnectionConfig(url: string): ClientConfig {
  return { ...connectionConfig(url), connectionTimeoutMillis: CONNECT_MS };
}
