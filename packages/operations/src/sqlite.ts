// The SQLite driver. Kysely compiles the SQL and node:sqlite runs it. A script runs synchronously from BEGIN
// to COMMIT, so that nothing of this process comes in between. Any number of processes share the file.

import type { DatabaseSync, StatementSync } from "node:sqlite";
import { type Clock, FormationError, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { isBusy, openSqlite, retryBusy } from "@formation-mcp/os/sqlite";
import {
  type CompiledQuery,
  DummyDriver,
  Kysely,
  SqliteAdapter,
  SqliteIntrospector,
  SqliteQueryCompiler,
} from "kysely";
import { isCurrent, migrate, schemaVersion } from "./migrations/migrate.ts";
import type { Store } from "./port.ts";
import type { Tables } from "./sql/schema.ts";
import { createTransactions, type Result, type Transaction, type TransactionScript } from "./sql/script.ts";
import { createStore, type ScriptRunner } from "./store.ts";

export interface SqliteStoreOptions {
  /**
   * The database file, in a directory that exists; it is made with mode 0600. `:memory:` opens a store that
   * only this process has.
   */
  path: string;
  clock?: Clock;
  logger?: Logger;
}

/**
 * Opens the store in a file, which is made or migrated as needed. Several processes may do so at once.
 * @throws FormationError `unavailable` if the file cannot be opened or a newer program made it.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { path, clock = systemClock, logger = silentLogger } = options;
  const database = await openSqlite(path);
  try {
    const connection = new Connection(database);
    const at = createTransactions(compiler());
    const moved = await bringUpToDate(connection, () => at(clock.now()));
    if (moved) logger.log(moved.from === 0 ? "debug" : "info", "The database was migrated.", { ...moved });
    return createStore(createRunner(connection, clock, () => at(clock.now())));
  } catch (error) {
    database.close();
    throw asFormationError(error);
  }
}

/** Kysely as a compiler only: {@link Connection} runs what it compiles. */
function compiler(): Kysely<Tables> {
  return new Kysely<Tables>({
    dialect: {
      createAdapter: () => new SqliteAdapter(),
      createDriver: () => new DummyDriver(),
      createIntrospector: (db) => new SqliteIntrospector(db),
      createQueryCompiler: () => new SqliteQueryCompiler(),
    },
  });
}

/**
 * Makes or migrates the tables.
 * @returns the versions before and after, or null if nothing was to be done.
 */
async function bringUpToDate(
  connection: Connection,
  query: () => Transaction,
): Promise<{ from: number; to: number } | null> {
  connection.exec("PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;");
  return await retryBusy(() => {
    // A database is usually current, and then opening it must not wait for a writer.
    const there = connection.get("select 1 as there from sqlite_master where name = 'meta'");
    if (there && isCurrent(connection.transaction("BEGIN", schemaVersion(query())))) return null;
    const moved = connection.transaction("BEGIN IMMEDIATE", migrate(query()));
    return moved.from === moved.to ? null : moved;
  }, 60_000);
}

function createRunner(connection: Connection, clock: Clock, query: () => Transaction): ScriptRunner {
  const run = async <T>(action: () => T): Promise<T> => {
    try {
      return await retryBusy(action);
    } catch (error) {
      throw asFormationError(error);
    }
  };
  return {
    clock,
    read: <T>(script: (tx: Transaction) => TransactionScript<T>) =>
      run(() => connection.read(() => script(query()))),
    write: <T>(script: (tx: Transaction) => TransactionScript<T>) =>
      run(() => connection.transaction("BEGIN IMMEDIATE", script(query()))),
    revision: () => connection.revision(),
    exactRevision: async () => connection.revision(),
    close: async () => connection.close(),
  };
}

/** The primary result codes SQLITE_FULL and SQLITE_CONSTRAINT (https://sqlite.org/rescode.html). */
const SQLITE_FULL = 13;
const SQLITE_CONSTRAINT = 19;

/** One connection to the file: prepared statements, transactions, and the revision. */
class Connection {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, { statement: StatementSync; reads: boolean }>();
  /** The first queries of scripts that make more than one. */
  readonly #followed = new Set<string>();
  #dataVersion = -1;
  #revision = 0;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  exec(text: string): void {
    this.#database.exec(text);
  }

  get(text: string): Record<string, unknown> | undefined {
    return this.#prepared(text).statement.get();
  }

  /**
   * Runs a script that only reads; all its queries see one snapshot. A script of one query needs no
   * transaction. Which scripts make more queries is learnt from their first query; such a script is started
   * again in a transaction.
   */
  read<T>(script: () => TransactionScript<T>): T {
    this.#checkOpen();
    const single = script();
    const query = single.next();
    if (query.done) return query.value;
    if (!this.#followed.has(query.value.sql)) {
      const next = single.next(this.#query(query.value));
      if (next.done) return next.value;
      this.#followed.add(query.value.sql);
    }
    return this.transaction("BEGIN", script());
  }

  /**
   * Runs a script as one transaction; an error in it rolls back.
   * @param begin the statement that begins it.
   */
  transaction<T>(begin: string, script: TransactionScript<T>): T {
    this.#checkOpen();
    this.#run(begin);
    let changes = 0;
    try {
      let next = script.next();
      while (!next.done) {
        const result = this.#query(next.value);
        changes += result.changes;
        next = script.next(result);
      }
      this.#run("COMMIT");
      if (changes > 0) this.#revision++;
      return next.value;
    } catch (error) {
      if (this.#database.isTransaction) this.#run("ROLLBACK");
      throw error;
    }
  }

  /**
   * Other connections' writes change data_version, this one's do not
   * (https://sqlite.org/pragma.html#pragma_data_version).
   */
  revision(): number {
    if (!this.#database.isOpen) return this.#revision;
    try {
      const version = Number(this.get("PRAGMA data_version")?.["data_version"]);
      if (version !== this.#dataVersion) this.#revision++;
      this.#dataVersion = version;
    } catch (error) {
      if (!isBusy(error)) throw asFormationError(error);
    }
    return this.#revision;
  }

  close(): void {
    this.#statements.clear();
    if (this.#database.isOpen) this.#database.close();
  }

  #checkOpen(): void {
    if (this.#database.isOpen) return;
    throw new FormationError("unavailable", "The database is closed.", {
      remedy: "The program is stopping; try again when it runs.",
    });
  }

  #query(query: CompiledQuery): Result {
    const { statement, reads } = this.#prepared(query.sql);
    const parameters = query.parameters as (string | number | null)[];
    if (!reads) return { rows: [], changes: Number(statement.run(...parameters).changes) };
    const rows = statement.all(...parameters);
    // A write with RETURNING returns one row for each row that it wrote; a select wrote none.
    return { rows, changes: query.sql.startsWith("select") ? 0 : rows.length };
  }

  #run(text: string): void {
    this.#prepared(text).statement.run();
  }

  #prepared(text: string): { statement: StatementSync; reads: boolean } {
    let prepared = this.#statements.get(text);
    if (!prepared) {
      const statement = this.#database.prepare(text);
      prepared = { statement, reads: statement.columns().length > 0 };
      this.#statements.set(text, prepared);
    }
    return prepared;
  }
}

function asFormationError(error: unknown): FormationError {
  const { errcode, message } = error as { errcode?: number; message?: string };
  if (typeof errcode !== "number") return FormationError.from(error, "The database failed.");
  if (isBusy(error)) {
    return new FormationError("unavailable", "The database is locked by another process.", {
      cause: error,
      remedy: "Try again.",
    });
  }
  const primary = errcode & 0xff;
  const remedy =
    primary === SQLITE_FULL
      ? "The disk is full: free some space, then try again."
      : "Check the state directory's disk and permissions; look at the worker's log.";
  return new FormationError(
    primary === SQLITE_CONSTRAINT ? "conflict" : "unavailable",
    `The database failed: ${message}.`,
    {
      cause: error,
      remedy,
    },
  );
}
