// The SQL of the store, prepared once and run directly on node:sqlite.

import type { DatabaseSync } from "node:sqlite";
import type { Store } from "@formation-mcp/operations";

type Submission = Parameters<Store["submit"]>[0];

/** Rows that one transaction of a sweep removes, as in the store. */
const MANY = 1000;

/** Milliseconds to write these, each in its own transaction. */
export function rawCreate(db: DatabaseSync, submissions: readonly Submission[], now: number): number {
  const [begin, commit] = [db.prepare("BEGIN IMMEDIATE"), db.prepare("COMMIT")];
  const builds = submissions.map(({ build }) => columnsOf({ ...build, ...fresh(now) }));
  const operations = submissions.map((each) => columnsOf(operationRow(each, now)));
  const addBuild = db.prepare(insert("builds", Object.keys(builds[0] ?? {})));
  const addOperation = db.prepare(`${insert("operations", Object.keys(operations[0] ?? {}))} RETURNING *`);
  const start = performance.now();
  for (const [i, build] of builds.entries()) {
    begin.run();
    addBuild.run(...Object.values(build));
    addOperation.all(...Object.values(operations[i] ?? {}));
    commit.run();
  }
  return performance.now() - start;
}

/** Milliseconds to read these pages. */
export function rawList(
  db: DatabaseSync,
  pages: readonly { owner: string; before: number }[],
  limit: number,
): number {
  const [begin, commit] = [db.prepare("BEGIN"), db.prepare("COMMIT")];
  const select = db.prepare("SELECT * FROM operations WHERE seq < ? AND owner = ? ORDER BY seq DESC LIMIT ?");
  const start = performance.now();
  for (const { owner, before } of pages) {
    begin.run();
    const rows = select.all(before, owner, limit + 1);
    if (rows.length !== limit + 1) throw new Error(`a page has ${rows.length} rows`);
    commit.run();
  }
  return performance.now() - start;
}

/** Milliseconds to remove what ended before that time, in batches. */
export function rawCleanup(db: DatabaseSync, before: number, expected: number): number {
  const [begin, commit] = [db.prepare("BEGIN IMMEDIATE"), db.prepare("COMMIT")];
  const remove = db.prepare(
    `DELETE FROM operations WHERE seq IN (SELECT seq FROM operations WHERE ended_at IS NOT NULL AND ended_at <= ?
       ORDER BY ended_at, seq LIMIT ${MANY})`,
  );
  let removed = 0;
  const start = performance.now();
  for (let batch = MANY; batch === MANY; removed += batch) {
    begin.run();
    batch = Number(remove.run(before).changes);
    commit.run();
  }
  const took = performance.now() - start;
  if (removed !== expected) throw new Error(`${removed} rows were removed`);
  return took;
}

function insert(table: string, columns: readonly string[]): string {
  return `INSERT INTO ${table} (${columns.join(", ")}) VALUES (${columns.map(() => "?").join(", ")})`;
}

export function fresh(now: number) {
  return { version: 1, created_at: now, updated_at: now };
}

export function operationRow({ operation }: Submission, now: number): object {
  const { needs, ...given } = operation;
  return {
    ...given,
    ...needs,
    ...fresh(now),
    state: "queued",
    serial_key: operation.target_id,
    attempt: 0,
    send: 1,
    sent_at: now,
    run_at: now,
    desire_from: null,
    desire_to: null,
  };
}

/** Objects are written as JSON. */
export function columnsOf(record: object): Record<string, string | number | null> {
  return Object.fromEntries(
    Object.entries(record).map(([key, value]) => [
      key,
      typeof value === "object" && value !== null ? JSON.stringify(value) : (value as string | number | null),
    ]),
  );
}
