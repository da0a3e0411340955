// What a drained node does with its instances: stops them, or ships their builds again so that other nodes run them. Disks
// never travel: what is moved begins anew from its image.

import {
  controlSubject,
  type Id,
  type Instance,
  isHeard,
  LIMITS,
  newId,
  type Operation,
  SUBJECTS,
  suits,
} from "@formation-mcp/contract";
import type { Submission } from "@formation-mcp/operations";
import { instancesHere, unfinished } from "./reconcile.ts";
import { quietly, type Room } from "./room.ts";

/** What is paused can't be moved: elsewhere it would run. */
const TOUCHED: Record<"stop" | "move", readonly Instance["state"][]> = {
  stop: ["running", "paused"],
  move: ["running"],
};
const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
/** What nobody took for so long is given up: its instance stays stopped where it is. */
const MOVE_QUEUED_MS = 10 * 60_000;

/**
 * Asks for what a drain still lacks; done again until nothing is left to ask for.
 * @param send wakes those who are to do it.
 */
export async function drainInstances(
  room: Room,
  how: "stop" | "move",
  send: (operation: Operation) => Promise<void>,
): Promise<void> {
  const here: Instance[] = [];
  for await (const instance of instancesHere(room)) here.push(instance);
  for (const instance of here) {
    if (!TOUCHED[how].includes(instance.state) || instance.desired === "deleted") continue;
    await quietly(room, `${how} ${instance.id}`, async () => {
      if ((await unfinished(room, instance.id)).length > 0) return;
      const move = how === "move" ? await shipment(room, instance) : null;
      if (how === "move" && !move) return;
      await send((await room.store.submit(stop(room, instance))).operation);
      if (!move) return;
      const { version } = await room.store.instance(null, instance.id);
      const desire = { instance_id: instance.id, version, desired: "running" as const };
      await send((await room.store.submit({ ...move, desire })).operation);
    });
  }
}

function stop({ node, clock }: Room, instance: Instance): Submission {
  return {
    operation: {
      id: newId("op", clock),
      owner: instance.owner,
      tool: "vm_control",
      subject: controlSubject(node.id),
      input: { kind: "control", instance_id: instance.id, action: "stop" },
      target_id: instance.id,
      node_id: node.id,
      needs: NOTHING,
      deadline_at: clock.now() + LIMITS.attempts * LIMITS.bootMs,
    },
    desire: { instance_id: instance.id, version: instance.version, desired: "stopped" },
  };
}

/** The same build once more, for any node; null where none could take it, so that the instance goes on here. */
async function shipment(room: Room, instance: Instance): Promise<Submission | null> {
  const { store, node, clock, artifacts, logger } = room;
  const build = await store.build(null, instance.build_id);
  const needs = instance.config.resources;
  const placement = { node_id: null, labels: instance.config.labels ?? {}, needs };
  const others = (await store.nodes()).filter(
    (other) =>
      other.id !== node.id &&
      !other.cordoned &&
      !other.draining &&
      isHeard(other, clock.now()) &&
      suits(other, placement),
  );
  const elsewhere = artifacts.shared && build.state === "ready" && build.image?.archive !== undefined;
  if (!elsewhere || others.length === 0) {
    logger.log("info", "An instance can't be moved: no other node could run its build.", {
      instance: instance.id,
    });
    return null;
  }
  const operationId: Id<"op"> = newId("op", clock);
  const deploymentId = newId("dep", clock);
  return {
    operation: {
      id: operationId,
      owner: instance.owner,
      tool: "pack_ship",
      subject: SUBJECTS.ship,
      input: { kind: "ship", deployment_id: deploymentId, instance_id: instance.id, build_id: build.id },
      target_id: instance.id,
      ...placement,
      deadline_at: clock.now() + MOVE_QUEUED_MS + LIMITS.attempts * LIMITS.bootMs,
    },
    deployment: {
      id: deploymentId,
      owner: instance.owner,
      build_id: build.id,
      instance_id: instance.id,
      instance_name: instance.name,
      state: "queued",
      config: instance.config,
      replace: true,
      machine_id: null,
      error: null,
      operation_id: operationId,
      ended_at: null,
    },
  };
}
