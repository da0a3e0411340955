// The queue's SQLite file: how it is opened, how we notice that somebody deleted it, and how it is made anew. It holds
// nothing that cannot be lost, so a damaged file is moved aside and replaced instead of mended.

import { chmodSync, closeSync, openSync, renameSync, rmSync, statSync } from "node:fs";
import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { openSqlite, retryBusy } from "@formation-mcp/os/sqlite";

const SCHEMA_VERSION = 1;
const APPLICATION_ID = 0x464d5155; // "FMQU": tells our file from another database given by mistake
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

// Primary result codes (https://sqlite.org/rescode.html) that a file which vanished or broke under us gives.
const GONE = new Set([8, 10, 14]); // READONLY (moved), IOERR, CANTOPEN
const BROKEN = new Set([11, 26]); // CORRUPT, NOTADB

/** One opening of the file: its statements are prepared once. */
export class Opened {
  readonly database: DatabaseSync;
  readonly identity: string;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync, identity: string) {
    this.database = database;
    this.identity = identity;
  }

  sql(text: string): StatementSync {
    const known = this.#statements.get(text);
    if (known) return known;
    const statement = this.database.prepare(text);
    this.#statements.set(text, statement);
    return statement;
  }

  one<Row>(text: string, ...values: SQLInputValue[]): Row | undefined {
    return this.sql(text).get(...values) as Row | undefined;
  }

  all<Row>(text: string, ...values: SQLInputValue[]): Row[] {
    return this.sql(text).all(...values) as Row[];
  }

  /** Runs a statement and returns how many rows it changed. */
  run(text: string, ...values: SQLInputValue[]): number {
    return Number(this.sql(text).run(...values).changes);
  }
}

export class QueueFile {
  readonly #path: string;
  readonly #logger: Logger;
  readonly #onOpen: () => void;
  #opened: Opened | undefined;
  #opening: Promise<Opened> | undefined;
  #closed = false;

  /** `onOpen` is called whenever a file was opened, the first time and each time it was made anew. */
  constructor(path: string, logger: Logger, onOpen: () => void) {
    this.#path = path;
    this.#logger = logger;
    this.#onOpen = onOpen;
  }

  get walPath(): string {
    return `${this.#path}-wal`;
  }

  /** The file as it is open now, or undefined if it is not, or is no longer the one at our path. */
  intact(): Opened | undefined {
    return this.#opened && this.#opened.identity === identityOf(this.#path) ? this.#opened : undefined;
  }

  /** The open file; opened anew if it is gone. */
  async ensure(): Promise<Opened> {
    const intact = this.intact();
    if (intact) return intact;
    if (this.#closed) throw new FormationError("unavailable", "The queue is closed.");
    this.#opening ??= this.#reopen().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  /**
   * Does something in one write transaction. If the file vanishes meanwhile, it is done again in the new one.
   * @throws FormationError `unavailable`
   */
  async write<T>(action: (opened: Opened) => T): Promise<T> {
    return this.#again((opened) => transaction(opened, action));
  }

  /** Reads, without taking the lock that writers need. */
  async read<T>(action: (opened: Opened) => T): Promise<T> {
    return this.#again(action);
  }

  async #again<T>(action: (opened: Opened) => T): Promise<T> {
    for (let tries = 0; ; tries++) {
      const opened = await this.ensure();
      try {
        const result = await retryBusy(() => action(opened));
        // What was committed into a file that nobody sees any more must be said again.
        if (tries >= 3 || this.#closed || this.intact()) return result;
      } catch (error) {
        const lost = !opened.database.isOpen || isLost(error);
        if (error instanceof FormationError || tries >= 3 || !lost) throw unavailable(this.#path, error);
        if (BROKEN.has(codeOf(error)) && this.intact() === opened) setAside(this.#path);
      }
    }
  }

  close(): void {
    this.#closed = true;
    if (this.#opened?.database.isOpen) this.#opened.database.close();
    this.#opened = undefined;
  }

  async #reopen(): Promise<Opened> {
    const before = this.#opened;
    if (before?.database.isOpen) before.database.close();
    this.#opened = undefined;
    if (before) this.#logger.log("warn", "The queue's file is gone or changed; opening it anew.");
    for (let tries = 0; ; tries++) {
      try {
        const database = await openSqlite(createPrivate(this.#path));
        try {
          await retryBusy(() => migrate(database, this.#path));
        } catch (error) {
          database.close();
          throw error;
        }
        if (this.#closed) {
          database.close();
          throw new FormationError("unavailable", "The queue is closed.");
        }
        this.#opened = new Opened(database, identityOf(this.#path));
        this.#onOpen();
        return this.#opened;
      } catch (error) {
        const code = codeOf(error);
        if (tries >= 3 || !(GONE.has(code) || BROKEN.has(code))) throw unavailable(this.#path, error);
        if (BROKEN.has(code)) {
          this.#logger.log("error", "The queue's file is damaged; it is set aside and made anew.");
          setAside(this.#path);
        }
      }
    }
  }
}

function transaction<T>(opened: Opened, action: (opened: Opened) => T): T {
  opened.sql("BEGIN IMMEDIATE").run();
  try {
    const result = action(opened);
    opened.sql("COMMIT").run();
    return result;
  } catch (error) {
    if (opened.database.isOpen && opened.database.isTransaction) opened.sql("ROLLBACK").run();
    throw error;
  }
}

function migrate(database: DatabaseSync, path: string): void {
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

/** SQLite gives -wal and -shm the mode of the file itself, so that one alone has to be made private. */
function createPrivate(path: string): string {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    // An existing file must not be opened and closed by us: that would drop this process's locks on it (fcntl(2)).
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "EEXIST" && (statSync(path, { throwIfNoEntry: false })?.mode ?? 0) & 0o077)
      chmodSync(path, 0o600);
  }
  return path;
}

/** Names the three files behind a path; another text after any of them was replaced. */
function identityOf(path: string): string {
  return ["", "-wal", "-shm"]
    .map((suffix) => {
      const found = statSync(path + suffix, { bigint: true, throwIfNoEntry: false });
      return found ? `${found.dev}:${found.ino}` : "none";
    })
    .join(" ");
}

function setAside(path: string): void {
  try {
    renameSync(path, `${path}.damaged`);
  } catch {
    // Another process was faster.
  }
  for (const suffix of ["-wal", "-shm"]) rmSync(path + suffix, { force: true });
}

function codeOf(error: unknown): number {
  const own = (error as { errcode?: number } | null)?.errcode;
  if (own !== undefined) return own & 0xff;
  const cause = (error as Error | null)?.cause;
  return cause === undefined ? -1 : codeOf(cause);
}

function isLost(error: unknown): boolean {
  return GONE.has(codeOf(error)) || BROKEN.has(codeOf(error));
}

function unavailable(path: string, error: unknown): FormationError {
  if (error instanceof FormationError) return error;
  return new FormationError(
    "unavailable",
    `The queue at ${path} cannot be used: ${(error as Error).message}.`,
    {
      cause: error,
      remedy: "Check that its directory exists, is writable, and that its disk is not full.",
    },
  );
}
