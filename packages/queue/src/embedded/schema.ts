// The queue's tables, and how a file gets them. Tables of another schema version are dropped: nothing in them
// must be kept.

import type { DatabaseSync } from "node:sqlite";
import { FormationError } from "@formation-mcp/contract";

const SCHEMA_VERSION = 1;
const APPLICATION_ID = 0x464d5155; // "FMQU": distinguishes our file from another database given by mistake
const TABLES = ["messages", "recent", "dead", "events"] as const;
const SCHEMA = `
  CREATE TABLE IF NOT EXISTS messages (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, message_id TEXT NOT NULL, body TEXT NOT NULL,
    created_at INTEGER NOT NULL, visible_at INTEGER NOT NULL, deliveries INTEGER NOT NULL DEFAULT 0, holder TEXT
  ) STRICT;
  CREATE INDEX IF NOT EXISTS messages_by_subject ON messages (subject, seq);
  CREATE TABLE IF NOT EXISTS recent (message_id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS recent_by_time ON recent (at);
  CREATE TABLE IF NOT EXISTS dead (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, subject TEXT NOT NULL, message_id TEXT NOT NULL, body TEXT NOT NULL,
    reason TEXT NOT NULL, at INTEGER NOT NULL
  ) STRICT;
  CREATE TABLE IF NOT EXISTS events (seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, body TEXT NOT NULL) STRICT;
`;

/** @throws FormationError `invalid` if the file is another program's database. */
export function migrate(database: DatabaseSync, path: string): void {
  const pragma = (name: string) => Number(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
  database.exec("PRAGMA journal_size_limit = 4194304; BEGIN IMMEDIATE");
  try {
    const used = database.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"] !== 0;
    if (used && pragma("application_id") !== APPLICATION_ID) {
      throw new FormationError("invalid", `${path} is a database, but no queue.`, {
        remedy: "Give the queue a file of its own.",
      });
    }
    if (used && pragma("user_version") !== SCHEMA_VERSION) {
      for (const table of TABLES) database.exec(`DROP TABLE IF EXISTS ${table}`);
    }
    database.exec(SCHEMA);
    database.exec(
      `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${SCHEMA_VERSION}; COMMIT`,
    );
  } catch (error) {
    if (database.isTransaction) database.exec("ROLLBACK");
    throw error;
  }
}
