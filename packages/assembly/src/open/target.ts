// Which records and which node an operator's command works on. Commands print it first, because a shell
// easily has other settings than the server's unit. A command that only reads creates nothing where there is
// nothing, and says so.

import { statSync } from "node:fs";
import { resolve } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { Database, Nats } from "../settings/shared.ts";
import { type Layout, layoutOf } from "./layout.ts";

interface Target {
  stateDir: string;
  shared: { database: Pick<Database, "url"> | null; nats: Pick<Nats, "servers"> | null };
}

/** Names the database, and NATS if it is used, for a person. Never includes a password. */
export function describeTarget({ stateDir, shared: { database, nats } }: Target): string {
  const records = database
    ? `PostgreSQL at ${databaseAddress(database.url)}`
    : `SQLite in ${layoutOf(stateDir).store}`;
  return nats ? `${records}, and NATS at ${nats.servers.join(", ")}` : records;
}

/**
 * Whether records may exist: always with PostgreSQL, which must be asked; else if the state directory has a
 * database.
 */
export function hasStore({ stateDir, shared }: Target): boolean {
  return shared.database !== null || exists(layoutOf(stateDir), "store");
}

/** @throws FormationError `not_found` if the records would be in a state directory that has none. */
export function requireStore(target: Target): void {
  if (hasStore(target)) return;
  throw nothingIn(target.stateDir, "no records, and FORMATION_DATABASE_URL is not set");
}

/**
 * @throws FormationError `not_found` if no worker ever used the state directory, nor got an entry for NATS
 * there.
 */
export function requireNode(stateDir: string): void {
  if (!exists(layoutOf(stateDir), "nodeFile")) throw nothingIn(stateDir, "no node");
}

/** `db.example.org:5432, database formation`. */
export function databaseAddress(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  const socket = url.searchParams.get("host");
  const host = socket ?? (url.hostname === "" ? "localhost" : url.hostname);
  return `${host}:${url.port === "" ? "5432" : url.port}, database ${decodeURIComponent(url.pathname.slice(1))}`;
}

function exists(layout: Layout, part: "store" | "nodeFile"): boolean {
  try {
    statSync(layout[part]);
    return true;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return false;
    throw new FormationError("forbidden", `This user can't look into ${layout.root} (${code}).`, {
      cause: error,
      remedy: "Run this as the user that it belongs to.",
    });
  }
}

function nothingIn(stateDir: string, what: string): FormationError {
  return new FormationError("not_found", `There is nothing in ${resolve(stateDir)}: ${what}.`, {
    remedy:
      "Give this command the settings of the program that it is about: FORMATION_STATE_DIR or --state-dir, and what its unit's files set (docs/operating.md, “Run a command with a unit's settings”).",
  });
}
