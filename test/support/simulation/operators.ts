// The operators of a simulation: they cordon nodes, drain them in each way, and remove them as the operator's
// guide says: a node that is removed with force is really off.

import type { Drain } from "@formation-mcp/contract";
import { FormationError } from "@formation-mcp/contract";
import type { Nodes } from "@formation-mcp/control";
import type { Chance } from "./chance.ts";
import type { SimulatedNode } from "./nodes.ts";
import type { SimulatedServer } from "./servers.ts";
import { elapsed, NOWHERE, pause, within } from "./time.ts";
import type { Truth } from "./truth.ts";

interface Fleet {
  nodes: SimulatedNode[];
  servers: SimulatedServer[];
  truth: Truth;
  isOver(): boolean;
}

/** One operator manages this many nodes. */
const NODES = 40;
const EVERY_MS = 20_000;
const PATIENCE_MS = 120_000;
const TRIES = 60;

/** Works until the end, and undoes what it began: no node stays cordoned. */
export async function operate(fleet: Fleet, chance: Chance): Promise<void> {
  const busy = new Set<SimulatedNode>();
  const count = Math.ceil(fleet.nodes.length / NODES);
  await Promise.all(
    Array.from({ length: count }, (_, at) =>
      within(NOWHERE, () => work(fleet, busy, chance.branch(`${at}`))),
    ),
  );
}

async function work(fleet: Fleet, busy: Set<SimulatedNode>, chance: Chance): Promise<void> {
  const { nodes, servers, truth } = fleet;
  /** Repeats a request until it succeeds or is refused. */
  const ask = async <T>(action: (nodes: Nodes) => Promise<T>): Promise<T | null> => {
    for (;;) {
      try {
        return await chance.pick(servers).reach((doors) => action(doors.nodes));
      } catch (thrown) {
        const error = FormationError.from(thrown);
        if (error.code === "conflict" || error.code === "not_found") return null;
        if (error.code !== "unavailable") truth.offence(`an operator: ${error.code}: ${error.message}`);
        await pause(chance.between(500, 3000));
      }
    }
  };
  /** Waits, but not beyond the end of the simulation. */
  const rest = async (ms: number) => {
    for (const end = elapsed() + ms; elapsed() < end && !fleet.isOver(); )
      await pause(Math.min(2000, end - elapsed()));
  };
  const drain = async ({ id }: SimulatedNode, how: Drain) => {
    truth.count(`nodes drained: ${how}`);
    await ask((doors) => doors.drain(id, how));
    for (const end = elapsed() + PATIENCE_MS; elapsed() < end && !fleet.isOver(); await pause(5000)) {
      const state = (await ask((doors) => doors.get(id)))?.state;
      // Instances that are kept may run there indefinitely.
      if (state === "drained" || (how === "keep" && state === "cordoned")) return;
    }
    truth.count("nodes not drained in time");
  };
  /** A removed node comes back cordoned, once its worker runs. */
  const uncordon = async (node: SimulatedNode) => {
    for (let tries = 0; tries < TRIES; tries++) {
      if (await ask((doors) => doors.uncordon(node.id))) return;
      await pause(3000);
    }
  };
  const deeds: ((node: SimulatedNode) => Promise<unknown>)[] = [
    async (node) => {
      truth.count("nodes cordoned");
      await ask((doors) => doors.cordon(node.id));
      await rest(chance.wait(60_000));
      await uncordon(node);
    },
    async (node) => {
      await drain(node, chance.pick(["keep", "stop", "move"] as const));
      await rest(chance.wait(20_000));
      await uncordon(node);
    },
    async (node) => {
      await drain(node, "move");
      node.leave(10_000);
      await pause(chance.between(5000, 15_000));
      node.fenced = true;
      node.kill();
      const gone = await ask((doors) => doors.remove(node.id, { force: false }));
      truth.count(gone ? "nodes removed" : "nodes not removed, being in use");
      await rest(chance.wait(20_000));
      node.fenced = false;
      node.start();
      await uncordon(node);
    },
    async (node) => {
      node.fenced = true;
      node.fail();
      await rest(chance.wait(60_000));
      const gone = await ask((doors) => doors.remove(node.id, { force: true }));
      if (gone) truth.count("nodes removed with force");
      await rest(chance.wait(60_000));
      node.fenced = false;
      node.boot();
      node.start();
      await uncordon(node);
    },
  ];
  while (!fleet.isOver()) {
    await rest(chance.wait(EVERY_MS));
    const free = nodes.filter((node) => !busy.has(node));
    if (fleet.isOver() || free.length === 0) continue;
    const node = chance.pick(free);
    busy.add(node);
    await chance.pick(deeds)(node);
    busy.delete(node);
  }
}
