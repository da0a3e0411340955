// The SQLite driver: Kysely makes the SQL, node:sqlite runs it, and a script runs from BEGIN to COMMIT without letting
// go of the thread, so that nothing can come between. Any number of processes share the file.

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
import { type Query, queries, type Result, type Script } from "./sql/script.ts";
import { storeOver } from "./store.ts";

export interface SqliteStoreOptions {
  /** The database file; made with mode 0600 if it is not there. Its directory must be there. `:memory:` is a store of this process alone. */
  path: string;
  clock?: Clock;
  logger?: Logger;
}

/**
 * Opens the store in a file, made or migrated as needed; several processes may do so at once.
 * @throws FormationError `unavailable` if the file cannot be opened or was made by a newer program.
 */
export async function openSqliteStore(options: SqliteStoreOptions): Promise<Store> {
  const { path, clock = systemClock, logger = silentLogger } = options;
  const database = await openSqlite(path);
  try {
    const connection = new Connection(database);
    const at = queries(compiler());
    const moved = await prepare(connection, () => at(clock.now()));
    if (moved) logger.log(moved.from === 0 ? "debug" : "info", "The database was migrated.", { ...moved });
    return storeOver(runner(connection, clock, () => at(clock.now())));
  } catch (error) {
    database.close();
    throw asFormationError(error);
  }
}

/** Kysely as a maker of SQL alone: what it makes is run by {@link Connection}. */
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

async function prepare(
  connection: Connection,
  query: () => Query,
): Promise<{ from: number; to: number } | null> {
  connection.exec("PRAGMA journal_size_limit = 67108864; PRAGMA temp_store = MEMORY;");
  return await retryBusy(() => {
    // Most opens find a current database and must not wait for a writer.
    const there = connection.get("select 1 as there from sqlite_master where name = 'meta'");
    if (there && isCurrent(connection.transaction("BEGIN", schemaVersion(query())))) return null;
    const moved = connection.transaction("BEGIN IMMEDIATE", migrate(query()));
    return moved.from === moved.to ? null : moved;
  }, 60_000);
}

function runner(connection: Connection, clock: Clock, query: () => Query) {
  const run = async <T>(action: () => T): Promise<T> => {
    try {
      return await retryBusy(action);
    } catch (error) {
      throw asFormationError(error);
    }
  };
  return {
    clock,
    read: <T>(script: (q: Query) => Script<T>) => run(() => connection.read(() => script(query()))),
    write: <T>(script: (q: Query) => Script<T>) =>
      run(() => connection.transaction("BEGIN IMMEDIATE", script(query()))),
    revision: () => connection.revision(),
    written: async () => connection.revision(),
    close: async () => connection.close(),
  };
}

class Connection {
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, { statement: StatementSync; reads: boolean }>();
  /** The first questions of scripts that ask more than one. */
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
   * A script that asks one thing needs no transaction: a statement is one by itself. Which first questions are followed by
   * others is learnt; such a script is started anew, so that all it asks is answered from one moment.
   */
  read<T>(script: () => Script<T>): T {
    this.#checkOpen();
    const alone = script();
    const asked = alone.next();
    if (asked.done) return asked.value;
    if (!this.#followed.has(asked.value.sql)) {
      const answered = alone.next(this.#query(asked.value));
      if (answered.done) return answered.value;
      this.#followed.add(asked.value.sql);
    }
    return this.transaction("BEGIN", script());
  }

  transaction<T>(begin: string, script: Script<T>): T {
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

  /** Other connections' writes show in data_version (https://sqlite.org/pragma.html#pragma_data_version), own ones do not. */
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
    // A statement that returns what it wrote wrote as many rows; a mere select wrote none.
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
  const remedy =
    (errcode & 0xff) === 13
      ? "The disk is full: free some space, then try again."
      : "Check the state directory's disk and permissions; look at the worker's log.";
  return new FormationError(
    (errcode & 0xff) === 19 ? "conflict" : "unavailable",
    `The database failed: ${message}.`,
    {
      cause: error,
      remedy,
    },
  );
}
