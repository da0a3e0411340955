// What an operator's command works on: it is told, and where there is nothing yet a command that only looks makes nothing
// and says so. Its settings are easily another's than the server's: a unit's stand in files that a shell does not read.

import { statSync } from "node:fs";
import { resolve } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { SharedConfiguration } from "../settings/shared-configuration.ts";
import { type Layout, layoutOf } from "./layout.ts";

interface Where {
  stateDir: string;
  shared: Pick<SharedConfiguration, "database" | "nats">;
}

/** For a person: which database, and which NATS if there is one. Never a password. */
export function whereKept({ stateDir, shared: { database, nats } }: Where): string {
  const records = database
    ? `PostgreSQL at ${placeOf(database.url)}`
    : `SQLite in ${layoutOf(stateDir).store}`;
  return nats ? `${records}, and NATS at ${nats.servers.join(", ")}` : records;
}

/** Whether there are records to look at. What PostgreSQL holds is found out by asking it. */
export function hasStore({ stateDir, shared }: Where): boolean {
  return shared.database !== null || isThere(layoutOf(stateDir), "store");
}

/** @throws FormationError `not_found` if the records are to be in a state directory that has none. */
export function requireStore(where: Where): void {
  if (hasStore(where)) return;
  throw nothingIn(where.stateDir, "no records, and FORMATION_DATABASE_URL is not set");
}

/** @throws FormationError `not_found` if no worker ever had the state directory, nor got an entry for NATS. */
export function requireNode(stateDir: string): void {
  if (!isThere(layoutOf(stateDir), "nodeFile")) throw nothingIn(stateDir, "no node");
}

/** `db.example.org:5432, database formation`. */
export function placeOf(databaseUrl: string): string {
  const url = new URL(databaseUrl);
  const socket = url.searchParams.get("host");
  const host = socket ?? (url.hostname === "" ? "localhost" : url.hostname);
  return `${host}:${url.port === "" ? "5432" : url.port}, database ${decodeURIComponent(url.pathname.slice(1))}`;
}

function isThere(layout: Layout, part: "store" | "nodeFile"): boolean {
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
