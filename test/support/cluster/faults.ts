// What is done to a cluster, and undone: each fault takes its time and leaves everything running again.

import { rmSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import type { Cluster } from "../cluster.ts";
import type { Chance } from "../simulation/chance.ts";
import type { Cable } from "./cable.ts";
import { machineProcesses } from "./machines.ts";

export interface Victims {
  cluster: Cluster;
  cables: Map<string, Cable>;
}

export interface Fault {
  name: string;
  /** How long it lasts, in milliseconds: at least, and at most in a short and in a long set. */
  lasts: [number, number, number];
  play(victims: Victims, chance: Chance, ms: number): Promise<void>;
}

const LEASE_MS = 30_000;

export const FAULTS: readonly Fault[] = [
  {
    name: "a worker killed",
    lasts: [0, 2000, 40_000],
    async play({ cluster }, chance, ms) {
      const node = chance.pick(cluster.nodes);
      await node.program().kill();
      await delay(ms);
      await node.start();
    },
  },
  {
    name: "all workers killed",
    lasts: [0, 1000, 10_000],
    async play({ cluster: { nodes } }, _, ms) {
      await Promise.all(nodes.map((node) => node.program().kill()));
      await delay(ms);
      await Promise.all(nodes.map((node) => node.start()));
    },
  },
  {
    name: "a worker paused",
    // Beyond its lease, so that its work goes to another before it wakes.
    lasts: [500, 3000, LEASE_MS * 1.5],
    async play({ cluster }, chance, ms) {
      const program = chance.pick(cluster.nodes).program();
      program.signal("SIGSTOP");
      await delay(ms);
      program.signal("SIGCONT");
    },
  },
  {
    name: "a server killed",
    lasts: [0, 1000, 5000],
    async play({ cluster }, chance, ms) {
      const server = chance.pick(cluster.servers);
      await server.program().kill();
      await delay(ms);
      await server.start();
    },
  },
  {
    name: "all servers killed",
    lasts: [0, 1000, 5000],
    async play({ cluster: { servers } }, _, ms) {
      await Promise.all(servers.map((server) => server.program().kill()));
      await delay(ms);
      await Promise.all(servers.map((server) => server.start()));
    },
  },
  {
    name: "NATS down",
    lasts: [0, 2000, 30_000],
    async play({ cluster: { nats } }, _, ms) {
      await nats.kill();
      await delay(ms);
      await nats.start();
    },
  },
  {
    name: "NATS without its store",
    lasts: [0, 1000, 10_000],
    async play({ cluster: { nats } }, _, ms) {
      await nats.kill();
      rmSync(nats.dataDir, { recursive: true, force: true });
      await delay(ms);
      await nats.start();
    },
  },
  {
    name: "PostgreSQL crashed",
    lasts: [0, 2000, 30_000],
    async play({ cluster: { postgres } }, _, ms) {
      await postgres.crash();
      await delay(ms);
      await postgres.start();
    },
  },
  {
    name: "a worker cut off from NATS",
    lasts: [500, 3000, LEASE_MS],
    async play({ cables }, chance, ms) {
      const cable = chance.pick([...cables.values()]);
      cable.cut();
      await delay(ms);
      cable.mend();
    },
  },
  {
    name: "machines killed",
    lasts: [0, 0, 0],
    async play({ cluster }) {
      for (const { pid } of machineProcesses(cluster)) process.kill(pid, "SIGKILL");
    },
  },
];
