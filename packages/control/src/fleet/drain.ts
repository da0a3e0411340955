// What becomes of a drained node's instances: servers have them stopped, or their builds shipped again so that other nodes run
// them; workers may not submit. Disks never travel: what is moved begins anew from its image. A move is a stop and a shipment;
// what is stopped and still wanted running is half-way, so that whoever looks next goes on with it. Any number of servers look.

import type { Artifacts } from "@formation-mcp/artifacts";
import { everyItem, startPeriodicTask } from "@formation-mcp/base";
import {
  type Build,
  controlSubject,
  DRAIN_TOOL,
  FormationError,
  type Id,
  type Instance,
  isHeard,
  LIMITS,
  type Logger,
  logFailure,
  type NodeRecord,
  newId,
  type Operation,
  type Placement,
  quietly,
  SUBJECTS,
  silentLogger,
  suits,
} from "@formation-mcp/contract";
import type { Store, Submission } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import { submitAndWake } from "../submit/submit.ts";

/** In the order in which they are looked at: what is half-way has the room elsewhere first. What is paused would run there. */
const TOUCHED: Record<"stop" | "move", readonly Instance["state"][]> = {
  stop: ["running", "paused"],
  move: ["stopped", "running"],
};
const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
/** A shipment that nobody took for so long ends; it is asked for anew while there is room for it. */
const MOVE_QUEUED_MS = 10 * 60_000;
/** How often a server looks: as soon as an admin may wonder why nothing happens. */
const EVERY_MS = 5000;
/** How often a shipment is submitted again because the instance changed under it. */
const TRIES = 5;
/** Another node that takes work, with what is free there. */
type Place = Pick<NodeRecord, "id" | "labels" | "capacity">;

export interface DrainerOptions {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  logger?: Logger;
  /** How often it looks. Default: 5 s. */
  everyMs?: number;
}

export interface Drainer {
  /** Asks for all that drains still lack. What fails is told to the operator, and comes again next time. */
  look(): Promise<void>;
  close(): Promise<void>;
}

interface Drains extends Required<Omit<DrainerOptions, "everyMs">> {
  /** The one that is drained. */
  node: NodeRecord;
}

/** Begins to see to drained nodes until all that they lack was asked for. */
export function startDrainer(options: DrainerOptions): Drainer {
  const { store, logger = silentLogger, everyMs = EVERY_MS } = options;
  let closed = false;
  const lookOnce = async () => {
    for (const node of await store.nodes()) {
      const { drain } = node;
      if (closed) return;
      if (drain === "stop" || drain === "move") await drainInstances({ ...options, logger, node }, drain);
    }
  };
  const task = startPeriodicTask({
    everyMs,
    action: lookOnce,
    onFailure: (thrown) => logFailure(logger, "drain nodes", thrown),
  });
  return {
    look: task.run,
    close() {
      closed = true;
      return task.stop();
    },
  };
}

async function drainInstances(drains: Drains, how: "stop" | "move"): Promise<void> {
  const places = how === "move" ? await placesElsewhere(drains) : [];
  const idle: Instance[] = [];
  for await (const instance of instancesOf(drains)) {
    if (instance.desired === "deleted") continue;
    const operations = await unfinished(drains, instance.id);
    // What is on its way has its room already.
    if (operations.some(({ tool }) => tool === DRAIN_TOOL)) takePlace(places, instance);
    if (operations.length === 0) idle.push(instance);
  }
  for (const state of TOUCHED[how]) {
    for (const instance of idle.filter((each) => each.state === state)) {
      await quietly(drains.logger, `${how} ${instance.id}`, () =>
        how === "stop" ? submit(drains, stop(drains, instance)) : move(drains, instance, places),
      );
    }
  }
}

function instancesOf({ store, node }: Drains): AsyncIterable<Instance> {
  return everyItem((cursor) =>
    store.instances({ owner: null, node_id: node.id, limit: LIMITS.pageSize, cursor }),
  );
}

async function unfinished({ store }: Drains, target: Id<"vm">): Promise<Operation[]> {
  const states: Operation["state"][] = ["queued", "running"];
  return (await store.operations({ owner: null, states, target, limit: LIMITS.pageSize })).items;
}

async function submit(drains: Drains, submission: Submission): Promise<void> {
  const { operation } = await submitAndWake(drains, submission);
  // Its owner did not ask for this: who watches the instance is told that something else is desired of it.
  const { owner, target_id } = operation;
  await drains.queue.emit({ v: 1, id: target_id, owner }).catch(() => undefined);
}

async function move(drains: Drains, instance: Instance, places: Place[]): Promise<void> {
  const isHalfWay = instance.state === "stopped";
  if (isHalfWay && instance.desired !== "running") return;
  const build = await movable(drains, instance, places);
  if (!build) return;
  if (!isHalfWay) await submit(drains, stop(drains, instance, DRAIN_TOOL));
  for (let attempt = 1; ; attempt += 1) {
    const now = await drains.store.instance(null, instance.id);
    // The owner may have asked for something else since, and another server for this.
    if (now.desired !== "running") return;
    if ((await unfinished(drains, instance.id)).some(({ subject }) => subject === SUBJECTS.ship)) return;
    try {
      return await submit(drains, shipment(drains, now, build));
    } catch (error) {
      // The stop may run by now, and changes it.
      const raced = error instanceof FormationError && error.code === "conflict";
      if (!raced || attempt === TRIES) throw error;
    }
  }
}

async function placesElsewhere({ store, node }: Drains): Promise<Place[]> {
  const uses = new Map((await store.nodeUse()).map((use) => [use.node_id, use]));
  return (await store.nodes())
    .filter((other) => other.id !== node.id && !other.cordoned && !other.draining)
    .filter((other) => isHeard(other, store.clock.now()))
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
  { node, store: { clock } }: Drains,
  instance: Instance,
  tool: typeof DRAIN_TOOL | "vm_control" = "vm_control",
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
      deadline_at: clock.now() + LIMITS.attempts * LIMITS.bootMs,
    },
    desire: {
      instance_id: instance.id,
      version: instance.version,
      desired: tool === DRAIN_TOOL ? "running" : "stopped",
    },
  };
}

/** The build that other nodes can run; null where none has room for it, so that the instance stays as it is here. */
async function movable(drains: Drains, instance: Instance, places: Place[]): Promise<Build | null> {
  const build = await drains.store.build(null, instance.build_id);
  const elsewhere = drains.artifacts.shared && build.state === "ready" && build.image?.archive !== undefined;
  if (elsewhere && takePlace(places, instance)) return build;
  drains.logger.log(
    "info",
    "An instance can't be moved: no other node has room for it and can run its build.",
    {
      instance: instance.id,
    },
  );
  return null;
}

/** The same build once more, for any node. */
function shipment({ store: { clock } }: Drains, instance: Instance, build: Build): Submission {
  const operationId: Id<"op"> = newId("op", clock);
  const deploymentId = newId("dep", clock);
  return {
    operation: {
      id: operationId,
      owner: instance.owner,
      tool: DRAIN_TOOL,
      subject: SUBJECTS.ship,
      input: { kind: "ship", deployment_id: deploymentId, instance_id: instance.id, build_id: build.id },
      target_id: instance.id,
      node_id: null,
      labels: instance.config.labels ?? {},
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
