// The three files of a SQLite database in WAL mode, seen from outside: whether they exist and are still the
// same.

import { renameSync, rmSync, statSync } from "node:fs";

export interface FileIdentity {
  /** The identity of the database file alone. */
  main: string;
  all: string;
}

/** Identifies the three files at a path; null if one is missing. Differs once any of them was replaced. */
export function identityOf(path: string): FileIdentity | null {
  const [main, log, index] = ["", "-wal", "-shm"].map((suffix) => {
    const found = statSync(path + suffix, { bigint: true, throwIfNoEntry: false });
    return found && `${found.dev}:${found.ino}`;
  });
  return main && log && index ? { main, all: `${main} ${log} ${index}` } : null;
}

/** Whether this main file is still at the path, even if its companion files are not. */
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
