// What 1,000 nodes ask of one PostgreSQL and one NATS, as a share of what these do here: heartbeats, claims that find nothing,
// looks for silent nodes, operations, and events, of which every node hears each. Where it breaks first can be read from it.

import { availableParallelism } from "node:os";
import { LIMITS, newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { startPostgres } from "@formation-mcp/operations/testing";
import { startNats } from "@formation-mcp/os/testing";
import { openNatsQueue } from "@formation-mcp/queue/nats";
import { connect } from "./queue-raw.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";

const NODES = 1000;
const OPERATIONS_A_DAY = 1_000_000;
const ROUNDS = 7;
const ROUND_MS = 1500;
/** Callers at once; each waits for its answer. */
const CALLERS = 8;
/** What a worker does by itself, in milliseconds: `packages/pack-manager/src/settings.ts`. */
const HEARTBEAT_MS = LIMITS.leaseMs / 3;
const POLL_MS = 5000;
const LOOK_MS = LIMITS.nodeSilentMs / 3;
/** Events of one operation from its submission to its end: queued, claimed, its steps, its records, ended. */
const EVENTS = 8;
const LISTENERS = 40;

const FREE = { vcpus: 64, memory_mb: 65_536, disk_gb: 1_000 };
const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

export async function benchFleet(scope: Scope): Promise<void> {
  const postgres = await startPostgres({ settings: { fsync: "on" } });
  scope.defer(() => postgres.stop());
  const store = await openPostgresStore({ url: postgres.url, poolSize: CALLERS });
  scope.defer(() => store.close());
  const nodes = Array.from({ length: NODES }, () => newId("node"));
  const one = () => nodes[Math.floor(Math.random() * NODES)] ?? newId("node");
  for (const id of nodes) await beat(store, id);

  await share("heartbeats", NODES / (HEARTBEAT_MS / 1000), () => beat(store, one()));
  await share("claims that find nothing", NODES / (POLL_MS / 1000), () => claim(store, one()));
  await share("looks for silent nodes", NODES / (LOOK_MS / 1000), () => store.markLost(LIMITS.nodeSilentMs));
  await share("1 M operations a day", OPERATIONS_A_DAY / 86_400, () => whole(store, one()));
  await events(scope);
}

/** Prints what is asked in a second as a share of what is done in one. */
async function share(what: string, wanted: number, action: () => Promise<unknown>): Promise<void> {
  await shareOf(what, wanted, "PostgreSQL", async () => {
    let done = 0;
    const end = performance.now() + ROUND_MS;
    const caller = async () => {
      for (; performance.now() < end; done++) await action();
    };
    await Promise.all(Array.from({ length: CALLERS }, caller));
    return done;
  });
}

async function shareOf(
  what: string,
  wanted: number,
  server: string,
  round: () => Promise<number>,
): Promise<void> {
  const shares: number[] = [];
  const told = progress(what, ROUNDS);
  for (let i = 0; i <= ROUNDS; i++) {
    const began = performance.now();
    const done = await round();
    const rate = done / ((performance.now() - began) / 1000);
    if (i > 0) shares.push(wanted / rate); // the first round warms up
    told(i);
  }
  shares.sort((a, b) => a - b);
  const at = (part: number) => shares[Math.floor((shares.length - 1) * part)] ?? Number.NaN;
  print({
    name: `fleet: ${what}, ${NODES} nodes`,
    limit: null,
    judge: "ratio",
    result: { ratio: at(0.5), low: at(0), high: at(1), ours: wanted, baseline: wanted / at(0.5) },
    against: `what one ${server} does beside us on ${availableParallelism()} cores (${Math.round(wanted)}/s wanted)`,
  });
}

/** Every node hears every event: `LISTENERS` of them stand for the rest. */
async function events(scope: Scope): Promise<void> {
  const nats = await startNats();
  scope.defer(() => nats.stop());
  let heard = 0;
  for (let i = 0; i < LISTENERS; i++) {
    const queue = await openNatsQueue({ connection: await connect(scope, nats.url), manage: i === 0 });
    scope.defer(() => queue.close());
    await queue.subscribe(() => {
      heard++;
    });
  }
  const from = await openNatsQueue({ connection: await connect(scope, nats.url) });
  scope.defer(() => from.close());
  const wanted = (OPERATIONS_A_DAY / 86_400) * EVENTS * NODES;
  await shareOf("events of 1 M operations a day", wanted, "NATS", async () => {
    heard = 0;
    const sent = 500;
    for (let i = 0; i < sent; i++) await from.emit({ v: 1, id: newId("op"), owner: "bench" });
    const limit = performance.now() + 30_000;
    while (heard < sent * LISTENERS && performance.now() < limit)
      await new Promise((turn) => setImmediate(turn));
    return heard;
  });
}

function beat(store: Store, id: ReturnType<typeof newId<"node">>) {
  return store.registerNode({
    id,
    name: id,
    labels: { zone: "a" },
    capacity: FREE,
    engine: { builder: "none", hypervisor: "none", accelerator: "kvm", profile: "root" },
    pid: 1,
    program: "1.0.0",
    draining: false,
  });
}

function claim(store: Store, node_id: ReturnType<typeof newId<"node">>) {
  const subjects = [SUBJECTS.build, SUBJECTS.ship];
  return store.claim({ node_id, subjects, free: FREE, labels: { zone: "a" }, leaseMs: LIMITS.leaseMs });
}

/** One operation from its submission to its end. */
async function whole(store: Store, node_id: ReturnType<typeof newId<"node">>): Promise<void> {
  const id = newId("op");
  const build_id = newId("bld");
  await store.submit({
    operation: {
      id,
      owner: "bench",
      tool: "pack_build",
      subject: SUBJECTS.build,
      input: { kind: "build", build_id, no_cache: false },
      target_id: build_id,
      node_id: null,
      needs: NOTHING,
      deadline_at: Date.now() + 3_600_000,
    },
  });
  const taken = await claim(store, node_id);
  if (!taken) return;
  const lease = { operation_id: taken.id, attempt: taken.attempt, node_id };
  await store.renew(lease, LIMITS.leaseMs);
  await store.settle(lease, { state: "failed", error: { code: "invalid", message: "Nothing to do." } });
}
