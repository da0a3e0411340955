// How many jobs a second 1, 2 and 4 workers (processes on one PostgreSQL and one NATS) do, and what was busy
// meanwhile. The target is linear scaling where a core was free; otherwise the report names the limit.

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import { Client } from "pg";
import { average, type Busy, limitOf, ownShare, told, watchCores } from "./busy.ts";
import { submit } from "./queue-submit.ts";
import type { Orders } from "./queue-worker.ts";
import { print, say } from "./report.ts";
import type { Scope } from "./scope.ts";
import { ratioOfMedians } from "./statistics.ts";

const ROUNDS = 3;
const WORKERS = [1, 2, 4];
const SLOTS = 4;
/**
 * How long a job lasts, and how many jobs each worker gets: at 200 ms the slots of a worker are the limit, at
 * 0 ms its own work.
 */
const HOLDS = [
  { holdMs: 200, jobsEach: 100 },
  { holdMs: 0, jobsEach: 300 },
];
/** How many are submitted at a time, before the clock starts. */
const BATCH = 10;
const LOOK_MS = 50;

export interface Jobs {
  nats: string;
  database: string;
  store: Store;
  queue: Queue;
}

interface Round {
  rate: number;
  busy: Busy;
  /** Commits and syncs of the log, per job. */
  commits: number;
  syncs: number;
}

export async function benchJobs(scope: Scope, at: Jobs): Promise<void> {
  for (const { holdMs, jobsEach } of HOLDS) {
    const seen = new Map<number, Round[]>(WORKERS.map((count) => [count, []]));
    for (let turn = 0; turn < ROUNDS; turn++) {
      for (const [count, rounds] of seen) {
        const round = await roundOf(scope, at, { count, holdMs, jobs: jobsEach * count });
        rounds.push(round);
        say(`  ${count} workers, ${holdMs} ms a job: ${round.rate.toFixed(0)} jobs/s; ${told(round.busy)}`);
      }
    }
    tell(holdMs, seen);
  }
}

function tell(holdMs: number, seen: ReadonlyMap<number, readonly Round[]>): void {
  const each = (count: number) => (seen.get(count) ?? []).map(({ rate }) => rate / count);
  const one = ownShare(average((seen.get(1) ?? []).map(({ busy }) => busy)));
  for (const [count, rounds] of seen) {
    const busy = average(rounds.map((round) => round.busy));
    const rate = mean(rounds.map((round) => round.rate));
    const perJob = Object.entries(busy.by)
      .filter(([name]) => name !== "others")
      .map(([name, cores]) => `${name} ${((cores / rate) * 1000).toFixed(2)}`)
      .join(", ");
    const [commits, syncs] = [mean(rounds.map((one) => one.commits)), mean(rounds.map((one) => one.syncs))];
    process.stdout.write(
      `  at ${count} workers, ${holdMs} ms a job: ${rate.toFixed(0)} jobs/s; ${told(busy)}\n` +
        `    CPU ms a job: ${perJob}; ${commits.toFixed(1)} commits and ${syncs.toFixed(1)} syncs of the log a job\n`,
    );
    if (count === 1) continue;
    const limit = limitOf(busy, one * count);
    print({
      name: `queue: jobs/s each of ${count} workers, ${holdMs} ms a job`,
      limit: limit === null ? { atLeast: 0.9 } : null,
      judge: "ratio",
      result: ratioOfMedians({ ours: each(count), baseline: each(1) }),
      against: limit === null ? "one worker alone" : `one worker alone; the limit here is ${limit}`,
    });
  }
}

/** All jobs are queued before the first wake-up is published. */
async function roundOf(
  scope: Scope,
  at: Jobs,
  { count, holdMs, jobs }: { count: number; holdMs: number; jobs: number },
): Promise<Round> {
  const directory = scope.directory();
  const orders: Orders = { database: at.database, nats: at.nats, directory, holdMs, slots: SLOTS };
  const workers = await Promise.all(Array.from({ length: count }, () => startWorker(scope, orders)));
  const ids: Awaited<ReturnType<typeof submit>>[] = [];
  while (ids.length < jobs) {
    ids.push(...(await Promise.all(Array.from({ length: BATCH }, () => submit(at.store)))));
  }
  const watching = new Client({ connectionString: at.database });
  await watching.connect();
  try {
    const before = await written(watching);
    const [start, busy] = [performance.now(), watchCores()];
    await Promise.all(
      ids.map((id) => at.queue.publish(SUBJECTS.build, `${id}.1`, { v: 1, operation_id: id })),
    );
    for (let left = ids; left.length > 0; ) {
      if (performance.now() - start > 120_000) throw new Error(`${left.length} jobs never ended`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      left = await unfinished(watching, left);
    }
    const rate = (ids.length * 1000) / (performance.now() - start);
    const cores = busy();
    const after = await written(watching);
    const [commits, syncs] = [after.commits - before.commits, after.syncs - before.syncs];
    return { rate, busy: cores, commits: commits / ids.length, syncs: syncs / ids.length };
  } finally {
    await watching.end();
    await Promise.all(workers.map(end));
  }
}

/** The jobs that are not completed. Only the last few are read, because jobs end about in order. */
async function unfinished<T extends string>(watching: Client, ids: readonly T[]): Promise<T[]> {
  const { rows } = await watching.query(
    "SELECT id FROM formation.operations WHERE state <> 'completed' AND id = ANY($1)",
    [ids],
  );
  return rows.map(({ id }) => id as T);
}

/** PostgreSQL publishes its statistics up to a second late; the jobs before this measurement balance that. */
async function written(watching: Client): Promise<{ commits: number; syncs: number }> {
  const { rows } = await watching.query(
    `SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS commits,
       (SELECT wal_sync FROM pg_stat_wal) AS syncs`,
  );
  return { commits: Number(rows[0].commits), syncs: Number(rows[0].syncs) };
}

async function startWorker(scope: Scope, orders: Orders): Promise<ChildProcess> {
  const program = join(import.meta.dirname, "queue-worker.ts");
  const child = spawn(process.execPath, ["--conditions=formation-source", program], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  scope.defer(() => end(child));
  child.stdin.write(`${JSON.stringify(orders)}\n`);
  await new Promise<void>((resolve, reject) => {
    createInterface({ input: child.stdout }).once("line", () => resolve());
    child.once("exit", (code) => reject(new Error(`a worker ended with ${code}`)));
  });
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await gone;
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
