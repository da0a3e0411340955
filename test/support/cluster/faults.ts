// The faults of a cluster: each takes its time, does what its name says or fails, and then restores the
// cluster.

import { rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster.ts";
import type { Chance } from "../simulation/chance.ts";
import { insight, Missed, nodeOf, type Seen, until } from "./insight.ts";
import { machineProcesses } from "./machines.ts";
import type { Scene } from "./scenes.ts";
import { STEPS } from "./steps.ts";
import type { Line, Wires } from "./wires.ts";

export interface Victims {
  cluster: Cluster;
  wires: Wires;
  leaseMs: number;
  /** How long a killed worker stays away: one of these, in milliseconds. */
  awayMs: number[];
  /** The longest outage, in milliseconds. */
  outageMs: number;
}

export interface Fault {
  name: string;
  scene: Scene;
  /** Whether the fault itself waits for its moment; otherwise a random one is chosen. */
  waits: boolean;
  /** What a server must have answered meanwhile: that it can not serve now, or nothing in particular. */
  servers?: "unavailable" | "gone";
  /** Returns what it did, in words. @throws Missed if its moment did not come: then it did nothing. */
  play(victims: Victims, chance: Chance): Promise<string>;
}

const usual = { scene: "usual", waits: false } as const;

export const FAULTS: readonly Fault[] = [
  {
    ...usual,
    name: "NATS down",
    async play({ cluster: { nats }, outageMs }) {
      await nats.kill();
      await delay(outageMs);
      await nats.start();
      return `for ${outageMs} ms`;
    },
  },
  {
    ...usual,
    name: "NATS without its store",
    async play({ cluster: { nats } }, chance) {
      await nats.kill();
      rmSync(nats.dataDir, { recursive: true });
      const ms = Math.round(chance.between(0, 3000));
      await delay(ms);
      await nats.start();
      return `after ${ms} ms`;
    },
  },
  {
    ...usual,
    name: "PostgreSQL restarted mid-transaction",
    waits: true,
    async play({ cluster }, chance) {
      const how = chance.pick(["crash", "quit"] as const);
      const open = await endPostgres(cluster, how);
      await cluster.postgres.start();
      return `${how} amid ${open} transactions`;
    },
  },
  {
    ...usual,
    name: "PostgreSQL down",
    waits: true,
    servers: "unavailable",
    async play({ cluster, outageMs }) {
      const open = await endPostgres(cluster, "crash");
      await delay(outageMs);
      await cluster.postgres.start();
      return `crashed amid ${open} transactions, for ${outageMs} ms`;
    },
  },
  {
    ...usual,
    name: "all servers killed",
    servers: "gone",
    async play({ cluster: { servers } }, chance) {
      await Promise.all(servers.map((server) => server.program().kill()));
      const ms = Math.round(chance.between(1000, 5000));
      await delay(ms);
      await Promise.all(servers.map((server) => server.start()));
      return `for ${ms} ms`;
    },
  },
  {
    ...usual,
    name: "all workers killed",
    async play({ cluster: { nodes }, awayMs }, chance) {
      await Promise.all(nodes.map((node) => node.program().kill()));
      const ms = chance.pick(awayMs);
      await delay(ms);
      await Promise.all(nodes.map((node) => node.start()));
      return `for ${ms} ms`;
    },
  },
  {
    ...usual,
    name: "a worker paused until its work is another's",
    waits: true,
    play: pauseUntilTaken,
  },
  cut("nats", "NATS"),
  cut("postgres", "PostgreSQL"),
  {
    ...usual,
    name: "machines killed",
    async play({ cluster }) {
      const found = machineProcesses(cluster);
      for (const { pid } of found) process.kill(pid, "SIGKILL");
      return `${found.length} processes`;
    },
  },
  ...STEPS,
];

/** Ends PostgreSQL while transactions with writes are open; returns how many. */
async function endPostgres({ postgres }: Cluster, how: "crash" | "quit"): Promise<number> {
  await using store = await insight(postgres.adminUrl);
  await store.holdAll();
  const open = await until("an open transaction", () => store.waiting(), { limitMs: 20_000 });
  await postgres[how]();
  return open;
}

async function pauseUntilTaken({ cluster, leaseMs }: Victims, chance: Chance): Promise<string> {
  await using store = await insight(cluster.postgres.adminUrl);
  const isFree = ({ kind, state, pinned, step }: Seen) =>
    (kind === "build" || kind === "ship") && state === "running" && !pinned && step !== "";
  for (let tries = 0; tries < 20; tries++) {
    const found = await until("work that any node may do", async () =>
      (await store.unfinished()).find(isFree),
    );
    const node = nodeOf(cluster, found);
    const program = node.program();
    program.signal("SIGSTOP");
    try {
      await delay(50);
      const now = await store.one(found.id);
      // Operations that it ended just before it was stopped are not lost work.
      if (now?.state !== "running" || now.node !== found.node) continue;
      const taken = await until(
        `${found.id} to be taken from ${node.name}`,
        async () => {
          const seen = await store.one(found.id);
          return seen !== undefined && (seen.attempt > now.attempt || !isOpen(seen)) && seen;
        },
        { limitMs: leaseMs + 90_000, everyMs: 100 },
      ).catch((error: Error) => {
        throw new Error(error.message);
      });
      // After three leases the worker counts as dead, and its instances as lost.
      const ms = Math.round(chance.pick([0, 2000, leaseMs * 3]));
      await delay(ms);
      const { name } = taken.node === null ? { name: "nobody" } : nodeOf(cluster, taken);
      return `at ${found.kind}: ${found.step}; it woke ${ms} ms after ${name} had attempt ${taken.attempt}`;
    } finally {
      program.signal("SIGCONT");
    }
  }
  throw new Missed("no work lasted until its worker was stopped");
}

function isOpen({ state }: Seen): boolean {
  return state === "queued" || state === "running";
}

function cut(line: Line, server: string): Fault {
  return {
    ...usual,
    name: `a worker cut off from ${server}`,
    async play({ cluster, wires, leaseMs, outageMs }, chance) {
      const { name } = chance.pick(cluster.nodes);
      const ms = Math.round(chance.pick([leaseMs * 0.7, leaseMs * 1.3, Math.max(outageMs, leaseMs * 1.3)]));
      wires.cut(name, line);
      await delay(ms);
      wires.mend(name, line);
      return `${name} for ${ms} ms, by ${wires.how}`;
    },
  };
}
