// The three files behind a SQLite database in write-ahead mode, seen from outside: present, and still the same.

import { renameSync, rmSync, statSync } from "node:fs";

export interface FileIdentity {
  /** The database file alone. */
  main: string;
  all: string;
}

/** Names the three files behind a path, or is null if one is missing. Another name after any of them was replaced. */
export function identityOf(path: string): FileIdentity | null {
  const [main, log, index] = ["", "-wal", "-shm"].map((suffix) => {
    const found = statSync(path + suffix, { bigint: true, throwIfNoEntry: false });
    return found && `${found.dev}:${found.ino}`;
  });
  return main && log && index ? { main, all: `${main} ${log} ${index}` } : null;
}

/** Whether this main file is still at the path, though its companions may not be. */
export function isMainAt(path: string, identity: FileIdentity): boolean {
  const found = statSync(path, { bigint: true, throwIfNoEntry: false });
  return found !== undefined && `${found.dev}:${found.ino}` === identity.main;
}

export function removeAll(path: string): void {
  for (const suffix of ["", "-wal", "-shm"]) rmSync(path + suffix, { force: true });
}

export function setAside(path: string): void {
  try {
    renameSync(path, `${path}.damaged`);
  } catch {
    // Another process was faster.
  }
  for (const suffix of ["-wal", "-shm"]) rmSync(path + suffix, { force: true });
}
