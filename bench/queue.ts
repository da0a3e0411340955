// The queue over NATS and the store on PostgreSQL: the time from a publication until a worker has the
// operation, compared with plain NATS and one UPDATE; and the jobs that 1, 2 and 4 workers do.

import { newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { startPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { startNats } from "@formation-mcp/os/testing/nats-server";
import type { Queue } from "@formation-mcp/queue";
import { openNatsQueue } from "@formation-mcp/queue/nats";
import { benchJobs } from "./queue-jobs.ts";
import { connect, rawClaims, rawQueue } from "./queue-raw.ts";
import { submit } from "./queue-submit.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { pairs, ratioOfMedians } from "./statistics.ts";

const PAIRS = 400;
const NODE = newId("node");
const CAPACITY = { vcpus: 64, memory_mb: 65_536, disk_gb: 1_000 };
/** So long that no lease ends while jobs are counted. */
const LEASE_MS = 3_600_000;

export async function benchQueue(scope: Scope): Promise<void> {
  const nats = await startNats();
  scope.defer(() => nats.stop());
  // As in production: committed data is on the disk.
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
  await benchJobs(scope, { nats: nats.url, database: postgres.url, store, queue: from });
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
  /** Milliseconds from the publication of a wake-up to the claim. */
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

  const ours = async () => {
    const id = await submit(store);
    return await send(id, async () => {
      const request = { node_id: NODE, subjects: [SUBJECTS.build], free: CAPACITY, leaseMs: LEASE_MS };
      const operation = await store.claim(request);
      if (operation?.id !== id) throw new Error("another operation was claimed");
    });
  };
  const claimed = await pairs(
    PAIRS,
    ours,
    async () => {
      const id = await submit(store);
      return await raw.send(body(id), () => rows.claim(id));
    },
    progress("publish → claimed", PAIRS),
  );
  print({
    name: "queue: publish → claimed",
    limit: { atMost: 1.3 },
    judge: "ratio",
    result: ratioOfMedians(claimed),
    against: "a raw JetStream consumer and one UPDATE … RETURNING of the operation",
  });

  const bare = await pairs(
    PAIRS,
    ours,
    async () => {
      const id = newId("op");
      await rows.addBare(id);
      return await raw.send(body(id), () => rows.claimBare(id));
    },
    progress("publish → claimed, beside a bare row", PAIRS),
  );
  print({
    name: "queue: publish → claimed, beside a bare row",
    limit: null,
    judge: "ratio",
    result: ratioOfMedians(bare),
    against: "the same of five columns without an index but their key's",
  });
  await consumer.close();
}
