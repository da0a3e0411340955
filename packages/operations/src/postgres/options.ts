// What identifies a store in PostgreSQL, and is checked before any connection is made: the URL and the name
// of the schema.

import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import type { Schemas } from "./dialect.ts";

export interface PostgresOptions {
  /** `postgres://role@host:port/database`. */
  url: string;
  /** Replaces the password in the URL. */
  password?: string;
  /** The schema of the records. Default `formation`. */
  schema?: string;
  clock?: Clock;
  logger?: Logger;
}

const SCHEMA_NAME = /^[a-z_][a-z0-9_]{0,49}$/;

/** @throws FormationError `invalid` */
export function schemasOf(schema = "formation"): Schemas {
  if (SCHEMA_NAME.test(schema)) return { records: schema, private: `${schema}_private` };
  throw new FormationError("invalid", "A schema is named with small letters, digits and underscores.");
}

export function urlOf({ url, password }: PostgresOptions): string {
  if (password === undefined) return url;
  const parsed = new URL(url);
  parsed.password = encodeURIComponent(password);
  return parsed.href;
}
