// The current operations of the store, read as the superuser of PostgreSQL; and row locks, which keep a
// program in an open transaction when it wants to write the row.

import { setTimeout as delay } from "node:timers/promises";
import { Client } from "pg";
import type { Cluster, Node } from "../../../examples/cluster/ground.ts";

export interface Seen {
  id: string;
  kind: string;
  state: string;
  step: string;
  attempt: number;
  /** The node that runs the operation. */
  node: string | null;
  /** Whether only one node may run it. */
  pinned: boolean;
  target: { table: "builds" | "deployments" | "instances"; id: string };
}

export interface Insight extends AsyncDisposable {
  /** The queued and running operations. */
  unfinished(): Promise<Seen[]>;
  one(id: string): Promise<Seen | undefined>;
  /** Locks a row until {@link release}. */
  hold({ table, id }: Seen["target"]): Promise<void>;
  /** Locks the row that a submission writes last and that a settle writes first. */
  holdAll(): Promise<void>;
  release(): Promise<void>;
  /** How many transactions wait for the lock. */
  waiting(): Promise<number>;
}

interface Row {
  id: string;
  input: string;
  state: string;
  progress: string | null;
  attempt: number;
  claimed_by: string | null;
  node_id: string | null;
}

const COLUMNS = "id, input, state, progress, attempt, claimed_by, node_id";

export async function insight(adminUrl: string): Promise<Insight> {
  const client = new Client(adminUrl);
  // This may be the server that is about to crash.
  client.on("error", () => {});
  await client.connect();
  const rows = async (where: string, values: unknown[]) =>
    (
      await client.query<Row>(
        `SELECT ${COLUMNS} FROM formation.operations WHERE ${where} ORDER BY seq`,
        values,
      )
    ).rows.map(seen);
  return {
    unfinished: () => rows("state IN ('queued', 'running')", []),
    one: async (id) => (await rows("id = $1", [id]))[0],
    async hold({ table, id }) {
      await client.query("BEGIN");
      await client.query(`SELECT 1 FROM formation.${table} WHERE id = $1 FOR UPDATE`, [id]);
    },
    async holdAll() {
      await client.query("BEGIN");
      await client.query(
        "LOCK TABLE formation.idempotency, formation.deployments IN SHARE ROW EXCLUSIVE MODE",
      );
    },
    async release() {
      await client.query("ROLLBACK");
    },
    async waiting() {
      const { rows: found } = await client.query<{ count: string }>(
        "SELECT count(*) FROM pg_stat_activity WHERE pg_backend_pid() = ANY (pg_blocking_pids(pid))",
      );
      return Number(found[0]?.count);
    },
    async [Symbol.asyncDispose]() {
      await client.end().catch(() => {});
    },
  };
}

/** The moment that a fault waits for did not come, or passed too fast: nothing has been done yet. */
export class Missed extends Error {}

/** Polls until a condition holds. @throws Missed with the awaited condition, after the limit. */
export async function until<T>(
  what: string,
  look: () => Promise<T | undefined | false>,
  { limitMs = 60_000, everyMs = 15 }: { limitMs?: number; everyMs?: number } = {},
): Promise<T> {
  const end = performance.now() + limitMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Missed(`waited ${limitMs / 1000} s for ${what}`);
    await delay(everyMs);
  }
}

/** The node that runs it. */
export function nodeOf({ nodes }: Cluster, seen: Seen): Node {
  const node = nodes.find(({ id }) => id === seen.node);
  if (!node) throw new Error(`${seen.id} is run by ${seen.node}, which is none of ours.`);
  return node;
}

function seen(row: Row): Seen {
  const input = JSON.parse(row.input) as Record<string, string>;
  const progress = row.progress === null ? null : (JSON.parse(row.progress) as { step: string });
  const target =
    input["kind"] === "build"
      ? ({ table: "builds", id: input["build_id"] ?? "" } as const)
      : input["kind"] === "ship"
        ? ({ table: "deployments", id: input["deployment_id"] ?? "" } as const)
        : ({ table: "instances", id: input["instance_id"] ?? "" } as const);
  return {
    id: row.id,
    kind: input["kind"] ?? "",
    state: row.state,
    step: progress?.step ?? "",
    attempt: row.attempt,
    node: row.claimed_by,
    pinned: row.node_id !== null,
    target,
  };
}
