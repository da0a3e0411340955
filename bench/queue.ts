// The queue over NATS and the store on PostgreSQL: how long from a publication until a worker has it, against the server
// spoken to directly and one UPDATE; and how many jobs 1, 2 and 4 workers do.

import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { startPostgres } from "@formation-mcp/operations/testing";
import { startNats } from "@formation-mcp/os/testing";
import type { Queue } from "@formation-mcp/queue";
import { openNatsQueue } from "@formation-mcp/queue/nats";
import { Client } from "pg";
import { connect, rawClaims, rawQueue } from "./queue-raw.ts";
import type { Orders } from "./queue-worker.ts";
import { print, progress, say } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians } from "./statistics.ts";

const PAIRS = 400;
const ROUNDS = 3;
const OWNER = "bench";
const NODE = newId("node");
const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
const CAPACITY = { vcpus: 64, memory_mb: 65_536, disk_gb: 1_000 };
/** So long that nothing claimed here is taken back while jobs are counted. */
const LEASE_MS = 3_600_000;
const SLOTS = 4;
/** What a job lasts that does nothing: a worker's slots are its limit. */
const HOLD_MS = 200;
const JOBS_EACH = 100;
/** So many are submitted at a time, before the clock runs. */
const BATCH = 10;

export async function benchQueue(scope: Scope): Promise<void> {
  const nats = await startNats();
  scope.defer(() => nats.stop());
  // As in earnest: what is committed is on the disk.
  const postgres = await startPostgres({ settings: { fsync: "on" } });
  scope.defer(() => postgres.stop());
  const store = await openPostgresStore({ url: postgres.url });
  scope.defer(() => store.close());
  const open = async () => {
    const queue = await openNatsQueue({ connection: await connect(scope, nats.url) });
    scope.defer(() => queue.close());
    return queue;
  };
  const [from, to] = [await open(), await open()];
  await latencies(scope, { nats: nats.url, database: postgres.url, store, from, to });
  await jobs(scope, { nats: nats.url, database: postgres.url, store, queue: from });
}

interface Latencies {
  nats: string;
  database: string;
  store: Store;
  from: Queue;
  to: Queue;
}

async function latencies(scope: Scope, { nats, database, store, from, to }: Latencies): Promise<void> {
  const raw = await rawQueue(scope, nats);
  const rows = await rawClaims(scope, database);
  let arrived: () => Promise<void> = async () => {};
  const consumer = await to.consume([SUBJECTS.build], { slots: 1 }, () => arrived());
  /** Milliseconds from the publication of a wake-up until it was taken. */
  const send = async (id: ReturnType<typeof newId<"op">>, taken: () => Promise<unknown>) => {
    const start = performance.now();
    const done = new Promise<number>((resolve, reject) => {
      arrived = async () => {
        try {
          await taken();
          resolve(performance.now() - start);
        } catch (error) {
          reject(error);
        }
      };
    });
    await from.publish(SUBJECTS.build, `${id}.1`, { v: 1, operation_id: id });
    return await done;
  };
  const body = (id: string) => JSON.stringify({ v: 1, operation_id: id });

  const delivered = await pairs(
    PAIRS,
    () => send(newId("op"), async () => {}),
    () => raw.send(body(newId("op")), () => {}),
    progress("publish → delivered", PAIRS),
  );
  print({
    name: "queue: publish → delivered",
    limit: null,
    judge: "ratio",
    result: ratioOfMedians(delivered),
    against: "a raw JetStream consumer",
  });

  const claimed = await pairs(
    PAIRS,
    async () => {
      const id = await submit(store);
      return await send(id, async () => {
        const request = { node_id: NODE, subjects: [SUBJECTS.build], free: CAPACITY, leaseMs: LEASE_MS };
        const operation = await store.claim(request);
        if (operation?.id !== id) throw new Error("another operation was claimed");
      });
    },
    async () => {
      const id = newId("op");
      await rows.add(id);
      return await raw.send(body(id), () => rows.claim(id));
    },
    progress("publish → claimed", PAIRS),
  );
  print({
    name: "queue: publish → claimed",
    limit: { atMost: 1.3 },
    judge: "ratio",
    result: ratioOfMedians(claimed),
    against: "a raw JetStream consumer and one UPDATE … RETURNING",
  });
  await consumer.close();
}

interface Jobs {
  nats: string;
  database: string;
  store: Store;
  queue: Queue;
}

async function jobs(scope: Scope, at: Jobs): Promise<void> {
  for (const holdMs of [HOLD_MS, 0]) {
    const rates = new Map<number, number[]>([1, 2, 4].map((count) => [count, []]));
    for (let round = 0; round < ROUNDS; round++) {
      for (const [count, seen] of rates) {
        const rate = await rateOf(scope, at, count, holdMs);
        seen.push(rate / count);
        say(`  ${count} workers, ${holdMs} ms a job: ${rate.toFixed(0)} jobs/s`);
      }
    }
    for (const count of [2, 4]) {
      print({
        name: `queue: jobs/s each of ${count} workers, ${holdMs} ms a job`,
        limit: holdMs > 0 ? { atLeast: 0.9 } : null,
        judge: "ratio",
        result: ratioOfMedians({ ours: rates.get(count) ?? [], baseline: rates.get(1) ?? [] }),
        against: "one worker alone",
      });
    }
  }
}

/** How many jobs a second so many workers do, which all wait when the jobs are published. */
async function rateOf(scope: Scope, at: Jobs, count: number, holdMs: number): Promise<number> {
  const directory = scope.directory();
  const orders: Orders = { database: at.database, nats: at.nats, directory, holdMs, slots: SLOTS };
  const workers = await Promise.all(Array.from({ length: count }, () => startWorker(scope, orders)));
  const ids: Awaited<ReturnType<typeof submit>>[] = [];
  while (ids.length < JOBS_EACH * count) {
    ids.push(...(await Promise.all(Array.from({ length: BATCH }, () => submit(at.store)))));
  }
  const watching = new Client({ connectionString: at.database });
  await watching.connect();
  try {
    const start = performance.now();
    await Promise.all(
      ids.map((id) => at.queue.publish(SUBJECTS.build, `${id}.1`, { v: 1, operation_id: id })),
    );
    for (;;) {
      const { rows } = await watching.query(
        "SELECT count(*) AS left FROM formation.operations WHERE state <> 'completed' AND id = ANY($1)",
        [ids],
      );
      if (Number(rows[0].left) === 0) break;
      if (performance.now() - start > 120_000) throw new Error(`${rows[0].left} jobs never ended`);
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    return (ids.length * 1000) / (performance.now() - start);
  } finally {
    await watching.end();
    await Promise.all(workers.map(end));
  }
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

/** A build that waits in the store, and whose wake-up nobody sent yet. */
async function submit(store: Store): Promise<ReturnType<typeof newId<"op">>> {
  const [id, build] = [newId("op"), newId("bld")];
  await store.submit({
    operation: {
      id,
      owner: OWNER,
      tool: "pack_build",
      subject: SUBJECTS.build,
      input: { kind: "build", build_id: build, no_cache: false },
      target_id: build,
      node_id: null,
      labels: {},
      needs: NOTHING,
      deadline_at: Date.now() + 3_600_000,
    },
    build: {
      id: build,
      owner: OWNER,
      name: "bench",
      state: "queued",
      formfile: {
        from: "busybox",
        name: "bench",
        run: [],
        include: [],
        env: {},
        expose: [],
        entrypoint: ["/bin/true"],
        resources: { vcpus: 1, memory_mb: 128, disk_gb: 1 },
        network: { join_formnet: false, external_networks: [] },
        metadata: {},
      },
      context_digest: null,
      image: null,
      warnings: [],
      metadata: {},
      error: null,
      node_id: null,
      used_at: Date.now(),
      operation_id: id,
      started_at: null,
      ended_at: null,
    },
  });
  return id;
}
