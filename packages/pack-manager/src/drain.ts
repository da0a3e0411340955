// What a drained node does with its instances: stops them, or ships their builds again so that other nodes run them. Disks
// never travel: what is moved begins anew from its image. A move is a stop and a shipment; what is stopped and still wanted
// running is half-way, so that whoever looks next goes on with it.

import {
  type Build,
  controlSubject,
  FormationError,
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

/** In the order in which they are looked at: what is half-way has the room elsewhere first. What is paused would run there. */
const TOUCHED: Record<"stop" | "move", readonly Instance["state"][]> = {
  stop: ["running", "paused"],
  move: ["stopped", "running"],
};
const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
/** A shipment that nobody took for so long ends; it is asked for anew while there is room for it. */
const MOVE_QUEUED_MS = 10 * 60_000;
/** How often a shipment is submitted again because the instance changed under it. */
const TRIES = 5;
/** The tool that both operations of a move name. */
const MOVE = "node_drain";

/** Another node that takes work, with what is free there. */
type Place = Pick<NodeRecord, "id" | "labels" | "capacity">;
type Send = (operation: Operation) => Promise<void>;

/** Whether an operation moves an instance: its stop changes nothing of what the owner desires. */
export function isMove({ tool }: Pick<Operation, "tool">): boolean {
  return tool === MOVE;
}

/**
 * Asks for what a drain still lacks; done again until nothing is left to ask for.
 * @param send wakes those who are to do it.
 */
export async function drainInstances(room: Room, how: "stop" | "move", send: Send): Promise<void> {
  const places = how === "move" ? await placesElsewhere(room) : [];
  const idle: Instance[] = [];
  for await (const instance of instancesHere(room)) {
    if (instance.desired === "deleted") continue;
    const operations = await unfinished(room, instance.id);
    // What is on its way has its room already.
    if (operations.some(isMove)) takePlace(places, instance);
    if (operations.length === 0) idle.push(instance);
  }
  for (const state of TOUCHED[how]) {
    for (const instance of idle.filter((each) => each.state === state)) {
      await quietly(room, `${how} ${instance.id}`, () =>
        how === "stop" ? submit(room, stop(room, instance), send) : move(room, instance, places, send),
      );
    }
  }
}

async function submit({ store }: Room, submission: Submission, send: Send): Promise<void> {
  await send((await store.submit(submission)).operation);
}

async function move(room: Room, instance: Instance, places: Place[], send: Send): Promise<void> {
  const isHalfWay = instance.state === "stopped";
  if (isHalfWay && instance.desired !== "running") return;
  const build = await movable(room, instance, places);
  if (!build) return;
  if (!isHalfWay) await submit(room, stop(room, instance, MOVE), send);
  for (let attempt = 1; ; attempt += 1) {
    const now = await room.store.instance(null, instance.id);
    // The owner may have asked for something else since.
    if (now.desired !== "running") return;
    try {
      return await submit(room, shipment(room, now, build), send);
    } catch (error) {
      // The stop may run by now, and changes it.
      const raced = error instanceof FormationError && error.code === "conflict";
      if (!raced || attempt === TRIES) throw error;
    }
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

/** @param tool the one that it is a part of: a move stops what is desired to run. */
function stop(
  { node, clock }: Room,
  instance: Instance,
  tool: typeof MOVE | "vm_control" = "vm_control",
): Submission {
  return {
    operation: {
      id: newId("op", clock),
      owner: instance.owner,
      tool,
      subject: controlSubject(node.id),
      input: { kind: "control", instance_id: instance.id, action: "stop" },
      target_id: instance.id,
      node_id: node.id,
      needs: NOTHING,
      deadline_at: clock.now() + LIMITS.attempts * LIMITS.bootMs,
    },
    desire: {
      instance_id: instance.id,
      version: instance.version,
      desired: tool === MOVE ? "running" : "stopped",
    },
  };
}

/** The build that other nodes can run; null where none has room for it, so that the instance stays as it is here. */
async function movable(room: Room, instance: Instance, places: Place[]): Promise<Build | null> {
  const build = await room.store.build(null, instance.build_id);
  const elsewhere = room.artifacts.shared && build.state === "ready" && build.image?.archive !== undefined;
  if (elsewhere && takePlace(places, instance)) return build;
  room.logger.log(
    "info",
    "An instance can't be moved: no other node has room for it and can run its build.",
    {
      instance: instance.id,
    },
  );
  return null;
}

/** The same build once more, for any node. */
function shipment({ clock }: Room, instance: Instance, build: Build): Submission {
  const operationId: Id<"op"> = newId("op", clock);
  const deploymentId = newId("dep", clock);
  return {
    operation: {
      id: operationId,
      owner: instance.owner,
      tool: MOVE,
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
    desire: { instance_id: instance.id, version: instance.version, desired: "running" },
  };
}
