// SQLite files that several processes share: opening them, retrying while another process holds the lock, and
// a lock file.

import { chmodSync, closeSync, openSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import type { DatabaseSync } from "node:sqlite";
import { setTimeout as delay } from "node:timers/promises";
import { FormationError } from "@formation-mcp/contract";

/** SQLITE_BUSY, SQLITE_LOCKED and their extended codes (https://sqlite.org/rescode.html). */
const BUSY_CODES = new Set([5, 6, 261, 262, 517, 773]);

/** The path of a private database in memory (https://sqlite.org/inmemorydb.html). */
const IN_MEMORY = ":memory:";

/** Whether an error means that another connection holds the lock. */
export function isBusy(error: unknown): boolean {
  return BUSY_CODES.has((error as { errcode?: number } | null)?.errcode ?? -1);
}

/**
 * Runs a synchronous action and repeats it with back-off while the database is locked, so that the event loop
 * is not blocked for long.
 * @throws FormationError `unavailable` if the lock was not free within `timeoutMs` (default 15 s).
 */
export async function retryBusy<T>(action: () => T, timeoutMs = 15_000): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (let pause = 1; ; pause = Math.min(pause * 2, 100)) {
    try {
      return action();
    } catch (error) {
      if (!isBusy(error)) throw error;
      if (performance.now() > end) {
        throw new FormationError("unavailable", "The database stayed locked by another process.", {
          cause: error,
          remedy: "Try again. If it stays so, look for a process that hangs on the state directory.",
        });
      }
    }
    await delay(pause * (0.5 + Math.random()));
  }
}

/** Whether this Node has node:sqlite (22.13 and later). */
export function hasSqlite(): boolean {
  return process.getBuiltinModule?.("node:sqlite") !== undefined;
}

/**
 * Opens a database file in write-ahead mode (https://sqlite.org/wal.html) and creates it with mode 0600 if it
 * does not exist; SQLite gives the -wal and -shm files the same mode. The busy timeout is short because the
 * API is synchronous: wrap writes in {@link retryBusy}.
 * @throws FormationError `unavailable` if the file cannot be opened, or on a Node without node:sqlite.
 */
export async function openSqlite(path: string): Promise<DatabaseSync> {
  const sqlite = hasSqlite()
    ? (createRequire(import.meta.url)("node:sqlite") as typeof import("node:sqlite"))
    : undefined;
  if (!sqlite) {
    throw new FormationError("unavailable", `Node ${process.versions.node} has no node:sqlite.`, {
      remedy: "Use Node 22.18 or later.",
    });
  }
  try {
    return await retryBusy(() => {
      if (path !== IN_MEMORY) makePrivate(path);
      const database = new sqlite.DatabaseSync(path, { timeout: 100 });
      try {
        // Setting the journal mode may meet another process that does the same, so all of this is retried.
        database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON;");
        return database;
      } catch (error) {
        database.close();
        throw error;
      }
    });
  } catch (error) {
    if (error instanceof FormationError) throw error;
    throw new FormationError("unavailable", `${path} cannot be opened: ${(error as Error).message}.`, {
      cause: error,
      remedy: "Check that the directory exists, is writable, and that its disk is not full.",
    });
  }
}

/**
 * Sets the file's mode to 0600. An existing file is not opened and closed here, because that would release
 * the locks that other connections of this process hold on it (fcntl(2), https://sqlite.org/howtocorrupt.html
 * section 2.2).
 */
function makePrivate(path: string): void {
  try {
    closeSync(openSync(path, "wx", 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  }
}

export interface FileLock extends Disposable {
  release(): void;
}

/**
 * Takes an exclusive lock, which ends with this process at the latest. Node has no flock(2), so the lock is
 * an open write transaction on a SQLite database that is used for nothing else.
 * @returns null if another process or connection holds the lock.
 */
export async function tryLock(path: string): Promise<FileLock | null> {
  const database = await openSqlite(path);
  try {
    database.exec("BEGIN IMMEDIATE");
  } catch (error) {
    database.close();
    if (isBusy(error)) return null;
    throw error;
  }
  const release = () => {
    if (database.isOpen) database.close();
  };
  return { release, [Symbol.dispose]: release };
}
