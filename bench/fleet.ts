// What 1,000 nodes and 1 million operations a day need of one PostgreSQL and one NATS, as a share of what
// these can do on this machine, and the CPU time that each request costs the server. From this one can
// compute where a fleet reaches its limit.

import { readFileSync } from "node:fs";
import { type Id, LIMITS, newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { startPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { startNats } from "@formation-mcp/os/testing/nats-server";
import { openNatsQueue } from "@formation-mcp/queue/nats";
import { type Busy, childNamed, treeOf, watchCores } from "./busy.ts";
import { connect } from "./queue-raw.ts";
import { submit } from "./queue-submit.ts";
import { print, progress } from "./report.ts";
import type { Scope } from "./scope.ts";
import { median } from "./statistics.ts";

const NODES = 1000;
const OPERATIONS_A_SECOND = 1_000_000 / 86_400;
const ROUNDS = 7;
const ROUND_MS = 1500;
/** Concurrent callers; each waits for its answer. */
const CALLERS = 8;
/** The periodic work of a worker, in milliseconds: `packages/pack-manager/src/settings.ts`. */
const HEARTBEAT_MS = LIMITS.leaseMs / 3;
const POLL_MS = 5000;
const LOOK_MS = LIMITS.nodeSilentMs / 3;
/** Events of one operation from its submission to its end: queued, claimed, its steps, its records, ended. */
const EVENTS = 8;
/** HTTP servers; each receives every event. */
const SERVERS = 2;
/** Connections that represent the workers of the fleet. */
const WAITING = 200;
const IDLE_MS = 10_000;
const CONNECTIONS = 60;

const FREE = { vcpus: 64, memory_mb: 65_536, disk_gb: 1_000 };

type Round = () => Promise<number>;

export async function benchFleet(scope: Scope): Promise<void> {
  await records(scope);
  await messages(scope);
}

async function records(scope: Scope): Promise<void> {
  const postgres = await startPostgres({ settings: { fsync: "on" } });
  scope.defer(() => postgres.stop());
  const store = await openPostgresStore({ url: postgres.url, poolSize: CALLERS });
  scope.defer(() => store.close());
  const nodes = Array.from({ length: NODES }, () => newId("node"));
  const one = () => nodes[Math.floor(Math.random() * NODES)] ?? newId("node");
  for (const id of nodes) await beat(store, id);
  const share = (what: string, wanted: number, action: () => Promise<unknown>) =>
    shareOf({ what, wanted, server: "postgres" }, () => called(action));

  await share("heartbeats", NODES / (HEARTBEAT_MS / 1000), () => beat(store, one()));
  await share("asking for work that is not there", NODES / (POLL_MS / 1000), async () => {
    const node_id = one();
    await store.instances({ owner: null, node_id, limit: LIMITS.pageSize });
    await claim(store, node_id);
  });
  await share("looks for silent nodes", NODES / (LOOK_MS / 1000), () => store.markLost(LIMITS.nodeSilentMs));
  await share("1 M operations a day", OPERATIONS_A_SECOND, () => whole(store, one()));
  await connections(scope, postgres.url, one);
}

/** Prints how much memory of PostgreSQL a connection of a worker takes that has run every kind of query. */
async function connections(scope: Scope, url: string, one: () => Id<"node">): Promise<void> {
  const before = memoryBelow("postgres");
  for (let i = 0; i < CONNECTIONS; i++) {
    const store = await openPostgresStore({ url, poolSize: 1, migrate: false });
    scope.defer(() => store.close());
    await beat(store, one());
    await store.instances({ owner: null, node_id: one(), limit: LIMITS.pageSize });
    await claim(store, one());
    await whole(store, one());
  }
  const each = (memoryBelow("postgres") - before) / CONNECTIONS / 1024 ** 2;
  process.stdout.write(`fleet: a connection takes ${each.toFixed(1)} MiB of PostgreSQL's memory\n`);
}

/** How often per second concurrent callers did something, each waiting for its answer. */
async function called(action: () => Promise<unknown>): Promise<number> {
  let done = 0;
  const end = performance.now() + ROUND_MS;
  const caller = async () => {
    for (; performance.now() < end; done++) await action();
  };
  await Promise.all(Array.from({ length: CALLERS }, caller));
  return done;
}

/** Prints the needed rate as a share of the possible rate, and the cost of one request for the server. */
async function shareOf(
  { what, wanted, server }: { what: string; wanted: number; server: "postgres" | "nats" },
  round: Round,
): Promise<void> {
  const [shares, costs]: [number[], number[]] = [[], []];
  const told = progress(what, ROUNDS);
  for (let i = 0; i <= ROUNDS; i++) {
    const watch = watchCores();
    const began = performance.now();
    const done = await round();
    const rate = done / ((performance.now() - began) / 1000);
    if (i > 0) {
      shares.push(wanted / rate); // the first round warms up
      costs.push(costOf(watch(), server, done));
    }
    told(i);
  }
  shares.sort((a, b) => a - b);
  const at = (part: number) => shares[Math.floor((shares.length - 1) * part)] ?? Number.NaN;
  const cost = median(costs);
  print({
    name: `fleet: ${what}`,
    limit: null,
    judge: "ratio",
    result: { ratio: at(0.5), low: at(0), high: at(1), ours: wanted, baseline: wanted / at(0.5) },
    against: `what one ${server} does (${rounded(wanted)}/s of ${rounded(wanted / at(0.5))}/s); ${cost.toFixed(3)} ms of its CPU each: ${((cost * wanted) / 1000).toFixed(3)} cores`,
  });
}

function costOf(busy: Busy, server: string, done: number): number {
  return ((busy.by[server] ?? 0) * busy.seconds * 1000) / done;
}

async function messages(scope: Scope): Promise<void> {
  const nats = await startNats();
  scope.defer(() => nats.stop());
  let heard = 0;
  for (let i = 0; i < SERVERS; i++) {
    const queue = await openNatsQueue({ connection: await connect(scope, nats.url), manage: i === 0 });
    scope.defer(() => queue.close());
    await queue.subscribe(() => {
      heard++;
    });
  }
  const from = await openNatsQueue({ connection: await connect(scope, nats.url) });
  scope.defer(() => from.close());
  const before = memoryBelow("nats");
  const nodes = Array.from({ length: WAITING }, () => newId("node"));
  for (const node of nodes) {
    const queue = await openNatsQueue({ connection: await connect(scope, nats.url), manage: false });
    scope.defer(() => queue.close());
    await queue.subscribe(() => {
      heard++;
    }, node);
    for (const subject of Object.values(SUBJECTS)) await queue.consume([subject], { slots: 1 }, nothing);
  }
  await idle(memoryBelow("nats") - before);
  const emit = (sent: number, hearers: number, who: () => { for?: Id<"node"> | "nodes" }): Round => {
    return async () => {
      heard = 0;
      for (let i = 0; i < sent; i++) await from.emit({ v: 1, id: newId("op"), owner: "bench", ...who() });
      const limit = performance.now() + 30_000;
      while (heard < sent * hearers && performance.now() < limit)
        await new Promise((turn) => setImmediate(turn));
      return sent;
    };
  };
  const wanted = OPERATIONS_A_SECOND * EVENTS;
  const at = { server: "nats", wanted } as const;
  await shareOf(
    { ...at, what: "events of 1 M operations a day" },
    emit(2000, SERVERS, () => ({})),
  );
  const all = SERVERS + WAITING;
  await shareOf(
    { ...at, what: `wake-ups passed on to ${WAITING} nodes`, wanted: OPERATIONS_A_SECOND },
    emit(50, all, () => ({ for: "nodes" })),
  );
  await shareOf({ ...at, what: `wake-ups with ${WAITING} nodes waiting`, wanted: OPERATIONS_A_SECOND }, () =>
    called(async () => {
      const id = newId("op");
      await from.publish(SUBJECTS.build, `${id}.1`, { v: 1, operation_id: id });
    }),
  );
}

/** Prints what waiting workers cost NATS. */
async function idle(bytes: number): Promise<void> {
  const watch = watchCores();
  await new Promise((resolve) => setTimeout(resolve, IDLE_MS));
  const { by } = watch();
  const cores = ((by["nats"] ?? 0) * NODES) / WAITING;
  process.stdout.write(
    `fleet: ${WAITING} idle workers at NATS: ${Math.round(bytes / WAITING / 1024)} KiB each, ` +
      `${(by["nats"] ?? 0).toFixed(4)} cores; of ${NODES}: ${cores.toFixed(3)} cores\n`,
  );
}

/**
 * Memory of a program that this process started, with its children, in bytes. Shared memory counts once
 * (PSS).
 */
function memoryBelow(name: string): number {
  const kib = treeOf(childNamed(name)).map((pid) => {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
    return Number(/^Pss:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0);
  });
  return kib.reduce((sum, each) => sum + each, 0) * 1024;
}

async function nothing(): Promise<void> {}

function rounded(rate: number): string {
  return rate < 20 ? rate.toFixed(1) : Math.round(rate).toString();
}

function beat(store: Store, id: Id<"node">) {
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

function claim(store: Store, node_id: Id<"node">) {
  const subjects = [SUBJECTS.build, SUBJECTS.ship];
  return store.claim({ node_id, subjects, free: FREE, labels: { zone: "a" }, leaseMs: LIMITS.leaseMs });
}

/** One operation from its submission to its end: three progress reports, one renewal of its lease. */
async function whole(store: Store, node_id: Id<"node">): Promise<void> {
  await submit(store);
  const taken = await claim(store, node_id);
  if (taken?.input.kind !== "build") return;
  const lease = { operation_id: taken.id, attempt: taken.attempt, node_id };
  const id = taken.input.build_id;
  await store.apply(lease, { builds: [{ id, patch: { state: "building", started_at: Date.now() } }] });
  for (const step of ["context", "run", "image"]) {
    await store.report(lease, { step, message: step, fraction: null });
  }
  await store.renew(lease, LIMITS.leaseMs);
  const error = { code: "invalid", message: "Nothing to do." } as const;
  const changes = { builds: [{ id, patch: { state: "failed", error, ended_at: Date.now() } as const }] };
  await store.settle(lease, { state: "failed", error }, changes);
}
