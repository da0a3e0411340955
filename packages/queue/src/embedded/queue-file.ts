// The queue's SQLite file: how it is opened, how its deletion is noticed, and how it is made again. Nothing
// in it must be kept, so a damaged file is moved aside and replaced, not repaired.

import type { DatabaseSync, SQLInputValue, StatementSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { openSqlite, retryBusy } from "@formation-mcp/os/sqlite";
import { migrate } from "./schema.ts";
import { type FileIdentity, identityOf, isMainAt, removeAll, setAside } from "./sqlite-files.ts";

const MAX_TRIES = 8;
// Primary result codes (https://sqlite.org/rescode.html) for a file that vanished or was damaged while open.
const IOERR_CODE = 10;
const GONE_CODES = new Set([8, IOERR_CODE, 14]); // READONLY (moved), IOERR, CANTOPEN
const BROKEN_CODES = new Set([11, 26]); // CORRUPT, NOTADB

/** One open database file, with its prepared statements. */
export class OpenDatabase {
  readonly database: DatabaseSync;
  readonly identity: FileIdentity;
  readonly #statements = new Map<string, StatementSync>();

  constructor(database: DatabaseSync, identity: FileIdentity) {
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
  #opened: OpenDatabase | undefined;
  #opening: Promise<OpenDatabase> | undefined;
  #closed = false;

  /** `onOpen` is called each time a file is opened: the first time, and each time it is made again. */
  constructor(path: string, logger: Logger, onOpen: () => void) {
    this.#path = path;
    this.#logger = logger;
    this.#onOpen = onOpen;
  }

  get walPath(): string {
    return `${this.#path}-wal`;
  }

  /** The open file; undefined if none is open or another file is now at the path. */
  intact(): OpenDatabase | undefined {
    return this.#opened?.identity.all === identityOf(this.#path)?.all ? this.#opened : undefined;
  }

  /** The open file; opens it again if it is gone. */
  async ensure(): Promise<OpenDatabase> {
    const intact = this.intact();
    if (intact) return intact;
    if (this.#closed) throw new FormationError("unavailable", "The queue is closed.");
    this.#opening ??= this.#reopen().finally(() => {
      this.#opening = undefined;
    });
    return this.#opening;
  }

  /**
   * Runs an action in one write transaction. If the file vanishes meanwhile, it runs again in the new file.
   * @throws FormationError `unavailable`
   */
  async write<T>(action: (opened: OpenDatabase) => T): Promise<T> {
    return this.#again((opened) => transaction(opened, action));
  }

  /** Reads without the write lock. */
  async read<T>(action: (opened: OpenDatabase) => T): Promise<T> {
    return this.#again(action);
  }

  async #again<T>(action: (opened: OpenDatabase) => T): Promise<T> {
    for (let tries = 0; ; tries++) {
      const opened = await this.ensure();
      try {
        const result = await retryBusy(() => action(opened));
        // A commit to a deleted file is lost, so it is repeated in the new one.
        if (tries >= 3 || this.#closed || this.intact()) return result;
      } catch (error) {
        const lost = !opened.database.isOpen || isLost(error);
        if (error instanceof FormationError || tries >= 3 || !lost) throw fileUnavailable(this.#path, error);
        if (BROKEN_CODES.has(sqliteCode(error)) && this.intact() === opened) setAside(this.#path);
      }
    }
  }

  close(): void {
    this.#closed = true;
    if (this.#opened?.database.isOpen) this.#opened.database.close();
    this.#opened = undefined;
  }

  async #reopen(): Promise<OpenDatabase> {
    this.#leave();
    for (let tries = 1; ; tries++) {
      try {
        return await this.#open();
      } catch (error) {
        if (tries >= MAX_TRIES || !isLost(error)) throw fileUnavailable(this.#path, error);
        if (BROKEN_CODES.has(sqliteCode(error))) {
          this.#logger.log("error", "The queue's file is damaged; it is set aside and made anew.");
          setAside(this.#path);
        }
        await delay(tries * 5);
      }
    }
  }

  async #open(): Promise<OpenDatabase> {
    const database = await openSqlite(this.#path);
    try {
      await retryBusy(() => migrate(database, this.#path));
      if (this.#closed) throw new FormationError("unavailable", "The queue is closed.");
      const identity = identityOf(this.#path);
      if (!identity)
        throw Object.assign(new Error("its files went while it was opened"), { errcode: IOERR_CODE });
      this.#opened = new OpenDatabase(database, identity);
      this.#onOpen();
      return this.#opened;
    } catch (error) {
      database.close();
      throw error;
    }
  }

  /** Closes the open file because it is no longer intact. */
  #leave(): void {
    const before = this.#opened;
    this.#opened = undefined;
    if (!before) return;
    this.#logger.log("warn", "The queue's file is gone or changed; opening it anew.");
    if (before.database.isOpen) before.database.close();
    // Without its log and index files, older and newer processes would see different content in one main
    // file.
    if (isMainAt(this.#path, before.identity)) removeAll(this.#path);
  }
}

function transaction<T>(opened: OpenDatabase, action: (opened: OpenDatabase) => T): T {
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

function sqliteCode(error: unknown): number {
  const own = (error as { errcode?: number } | null)?.errcode;
  if (own !== undefined) return own & 0xff;
  const cause = (error as Error | null)?.cause;
  return cause === undefined ? -1 : sqliteCode(cause);
}

function isLost(error: unknown): boolean {
  return GONE_CODES.has(sqliteCode(error)) || BROKEN_CODES.has(sqliteCode(error));
}

function fileUnavailable(path: string, error: unknown): FormationError {
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
