// What a drained node does with its instances: stops them, or ships their builds again so that other nodes run them. Disks
// never travel: what is moved begins anew from its image.

import {
  controlSubject,
  type Id,
  type Instance,
  isHeard,
  LIMITS,
  type NodeRecord,
  newId,
  type Operation,
  type Placement,
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

/** Another node that takes work, with what is free there. */
type Place = Pick<NodeRecord, "id" | "labels" | "capacity">;

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
  const places = how === "move" ? await placesElsewhere(room) : [];
  // What is on its way has its room already. Not by what is desired: the stop before the shipment has its say in that.
  const moving = ({ state, desired }: Instance) => state !== "running" && desired !== "deleted";
  for (const instance of how === "move" ? here.filter(moving) : []) {
    const operations = await unfinished(room, instance.id);
    if (operations.some(({ input }) => input.kind === "ship")) takePlace(places, instance);
  }
  for (const instance of here) {
    if (!TOUCHED[how].includes(instance.state) || instance.desired === "deleted") continue;
    await quietly(room, `${how} ${instance.id}`, async () => {
      if ((await unfinished(room, instance.id)).length > 0) return;
      const move = how === "move" ? await shipment(room, instance, places) : null;
      if (how === "move" && !move) return;
      await send((await room.store.submit(stop(room, instance))).operation);
      if (!move) return;
      const { version } = await room.store.instance(null, instance.id);
      const desire = { instance_id: instance.id, version, desired: "running" as const };
      await send((await room.store.submit({ ...move, desire })).operation);
    });
  }
}

async function placesElsewhere({ store, node, clock }: Room): Promise<Place[]> {
  const uses = new Map((await store.nodeUse()).map((use) => [use.node_id, use]));
  return (await store.nodes())
    .filter((other) => other.id !== node.id && !other.cordoned && !other.draining)
    .filter((other) => isHeard(other, clock.now()))
    .map(({ id, labels, capacity }) => ({ id, labels, capacity: less(capacity, uses.get(id) ?? NOTHING) }));
}

/** Whether an instance has room on one of the places, which it has then. */
function takePlace(places: Place[], instance: Instance): boolean {
  const placement = placementOf(instance);
  const place = places.find((each) => suits(each, placement));
  if (place) place.capacity = less(place.capacity, placement.needs);
  return place !== undefined;
}

function placementOf({ config: { labels = {}, resources } }: Instance): Placement {
  return { node_id: null, labels, needs: resources };
}

function less(from: Operation["needs"], taken: Operation["needs"]): Operation["needs"] {
  return {
    vcpus: from.vcpus - taken.vcpus,
    memory_mb: from.memory_mb - taken.memory_mb,
    disk_gb: from.disk_gb - taken.disk_gb,
  };
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

/** The same build once more, for any node; null where none has room for it, so that the instance goes on here. */
async function shipment(room: Room, instance: Instance, places: Place[]): Promise<Submission | null> {
  const { store, clock, artifacts, logger } = room;
  const build = await store.build(null, instance.build_id);
  const elsewhere = artifacts.shared && build.state === "ready" && build.image?.archive !== undefined;
  if (!elsewhere || !takePlace(places, instance)) {
    logger.log("info", "An instance can't be moved: no other node has room for it and can run its build.", {
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
      ...placementOf(instance),
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
