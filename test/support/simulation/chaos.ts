// The faults of a simulation, how often they happen, and their repair: the seed chooses the time, victim and
// end of each fault.

import { unlinkSync } from "node:fs";
import { LIMITS } from "@formation-mcp/contract";
import type { Bus } from "./bus.ts";
import type { Chance } from "./chance.ts";
import type { SimulatedNode, Surroundings } from "./nodes.ts";
import type { SimulatedServer } from "./servers.ts";
import { NOWHERE, pause, within } from "./time.ts";
import type { Truth } from "./truth.ts";

export interface Chaos {
  /** Repairs everything, after the current faults have ended. */
  end(): Promise<void>;
}

export interface Victims extends Pick<Surroundings, "deadly" | "trouble"> {
  nodes: SimulatedNode[];
  servers: SimulatedServer[];
  bus: Bus;
  truth: Truth;
  queuePaths: readonly string[];
}

/** How often each fault happens to each node, in milliseconds. */
const EVERY = {
  killed: 300_000,
  asked: 600_000,
  failed: 900_000,
  paused: 300_000,
  cutOff: 300_000,
  clock: 600_000,
  crash: 180_000,
};
/** The largest error of a clock: what the product allows for other machines. */
export const LONGEST_SKEW_MS = LIMITS.clockSkewMs;

export function unleash(victims: Victims, chance: Chance): Chaos {
  const { nodes, servers, bus, truth, deadly, trouble } = victims;
  let calm = false;
  const going = new Set<Promise<void>>();
  const again = (everyMs: number, name: string, fault: () => Promise<void>) => {
    const loop = within(NOWHERE, async () => {
      while (!calm) {
        await pause(chance.wait(everyMs));
        if (calm) return;
        truth.count(name);
        await fault();
      }
    });
    going.add(loop);
  };
  deadly.likelihood = 0.0005;
  Object.assign(trouble, { lost: 0.001, late: 0.002, lateMs: 20_000 });
  Object.assign(bus.troubles, { lost: 0.02, doubled: 0.02, late: 0.02 });
  const on = (everyMs: number, name: string, fault: (node: SimulatedNode) => Promise<void>) => {
    again(everyMs / nodes.length, name, async () => {
      // Faults may overlap.
      const over = fault(chance.pick(nodes));
      going.add(over);
      void over.finally(() => going.delete(over));
    });
  };
  on(EVERY.killed, "workers killed", async (node) => {
    node.kill();
    await pause(chance.wait(30_000));
    node.start();
  });
  on(EVERY.asked, "workers asked to leave", async (node) => node.leave(chance.wait(10_000)));
  on(EVERY.failed, "hosts without power", async (node) => {
    node.fail();
    await pause(chance.wait(120_000));
    node.boot();
    node.start();
  });
  on(EVERY.paused, "workers paused", async (node) => {
    node.pause();
    await pause(chance.wait(25_000));
    node.resume();
  });
  on(EVERY.cutOff, "nodes cut off", async (node) => {
    const which = chance.pick([["store"], ["queue"], ["store", "queue"]] as const);
    for (const each of which) node.cut[each] = true;
    await pause(chance.wait(40_000));
    for (const each of which) node.cut[each] = false;
  });
  const skew = () => Math.round(chance.between(-LONGEST_SKEW_MS, LONGEST_SKEW_MS));
  on(EVERY.clock, "clocks set wrong", async (node) => {
    node.skewMs = skew();
  });
  again(120_000, "servers' clocks set wrong", async () => {
    chance.pick(servers).skewMs = skew();
  });
  on(EVERY.crash, "guests crashed", async ({ host }) => {
    const alive = [...host.machines].filter(([, { state }]) => state === "running");
    if (alive.length === 0) return;
    const [id, machine] = chance.pick(alive);
    host.end(id, machine, "killed", 137);
  });
  again(60_000, "servers killed", async () => chance.pick(servers).kill());
  again(300_000, "all servers killed", async () => {
    for (const server of servers) server.kill();
  });
  again(400_000, "servers cut off", async () => {
    const server = chance.pick(servers);
    server.cut.store = true;
    await pause(chance.wait(15_000));
    server.cut.store = false;
  });
  again(500_000, "store away", async () => {
    const all = [...nodes, ...servers];
    for (const { cut } of all) cut.store = true;
    await pause(chance.wait(20_000));
    for (const { cut } of all) cut.store = false;
  });
  again(500_000, "queue lost", async () => {
    for (const path of victims.queuePaths) for (const end of ["", "-wal", "-shm"]) remove(path + end);
  });
  return {
    async end() {
      calm = true;
      deadly.likelihood = 0;
      Object.assign(trouble, { lost: 0, late: 0 });
      Object.assign(bus.troubles, { lost: 0, doubled: 0, late: 0 });
      for (const node of nodes) {
        node.cut.store = false;
        node.cut.queue = false;
        node.skewMs = 0;
        node.fenced = false;
        node.resume();
        node.boot();
        node.start();
      }
      for (const server of servers) {
        server.cut.store = false;
        server.skewMs = 0;
        server.start();
      }
    },
  };
}

function remove(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // It did not exist.
  }
}
