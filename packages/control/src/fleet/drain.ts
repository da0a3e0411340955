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
const DRAINED_STATES: Record<"stop" | "move", readonly Instance["state"][]> = {
  stop: ["running", "paused"],
  move: ["stopped", "running"],
};
const NO_RESOURCES = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
/** A shipment that nobody took for so long ends; it is asked for anew while there is room for it. */
const MOVE_QUEUED_MS = 10 * 60_000;
/** How often a server looks: as soon as an admin may wonder why nothing happens. */
const DEFAULT_EVERY_MS = 5000;
/** How often a shipment is submitted again because the instance changed under it. */
const MAX_ATTEMPTS = 5;
/** Another node that takes work, with what is free there. */
type FreeNode = Pick<NodeRecord, "id" | "labels" | "capacity">;

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

interface DrainDeps extends Required<Omit<DrainerOptions, "everyMs">> {
  /** The one that is drained. */
  node: NodeRecord;
}

/** Begins to see to drained nodes until all that they lack was asked for. */
export function startDrainer(options: DrainerOptions): Drainer {
  const { store, logger = silentLogger, everyMs = DEFAULT_EVERY_MS } = options;
  let closed = false;
  const drainOnce = async () => {
    for (const node of await store.nodes()) {
      const { drain } = node;
      if (closed) return;
      if (drain === "stop" || drain === "move") await drainInstances({ ...options, logger, node }, drain);
    }
  };
  const task = startPeriodicTask({
    everyMs,
    action: drainOnce,
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

async function drainInstances(deps: DrainDeps, how: "stop" | "move"): Promise<void> {
  const freeNodes = how === "move" ? await freeNodesElsewhere(deps) : [];
  const idle: Instance[] = [];
  for await (const instance of instancesOf(deps)) {
    if (instance.desired === "deleted") continue;
    const operations = await unfinishedOperations(deps, instance.id);
    // What is on its way has its room already.
    if (operations.some(({ tool }) => tool === DRAIN_TOOL)) reserveRoom(freeNodes, instance);
    if (operations.length === 0) idle.push(instance);
  }
  for (const state of DRAINED_STATES[how]) {
    for (const instance of idle.filter((each) => each.state === state)) {
      await quietly(deps.logger, `${how} ${instance.id}`, () =>
        how === "stop"
          ? submitAndEmit(deps, stopSubmission(deps, instance))
          : moveInstance(deps, instance, freeNodes),
      );
    }
  }
}

function instancesOf({ store, node }: DrainDeps): AsyncIterable<Instance> {
  return everyItem((cursor) =>
    store.instances({ owner: null, node_id: node.id, limit: LIMITS.pageSize, cursor }),
  );
}

async function unfinishedOperations({ store }: DrainDeps, target: Id<"vm">): Promise<Operation[]> {
  const states: Operation["state"][] = ["queued", "running"];
  return (await store.operations({ owner: null, states, target, limit: LIMITS.pageSize })).items;
}

async function submitAndEmit(deps: DrainDeps, submission: Submission): Promise<void> {
  const { operation } = await submitAndWake(deps, submission);
  // Its owner did not ask for this: who watches the instance is told that something else is desired of it.
  const { owner, target_id } = operation;
  await deps.queue.emit({ v: 1, id: target_id, owner }).catch(() => undefined);
}

async function moveInstance(deps: DrainDeps, instance: Instance, freeNodes: FreeNode[]): Promise<void> {
  const isHalfWay = instance.state === "stopped";
  if (isHalfWay && instance.desired !== "running") return;
  const build = await movableBuild(deps, instance, freeNodes);
  if (!build) return;
  if (!isHalfWay) await submitAndEmit(deps, stopSubmission(deps, instance, DRAIN_TOOL));
  for (let attempt = 1; ; attempt += 1) {
    const now = await deps.store.instance(null, instance.id);
    // The owner may have asked for something else since, and another server for this.
    if (now.desired !== "running") return;
    if ((await unfinishedOperations(deps, instance.id)).some(({ subject }) => subject === SUBJECTS.ship))
      return;
    try {
      return await submitAndEmit(deps, moveSubmission(deps, now, build));
    } catch (error) {
      // The stop may run by now, and changes it.
      const raced = error instanceof FormationError && error.code === "conflict";
      if (!raced || attempt === MAX_ATTEMPTS) throw error;
    }
  }
}

async function freeNodesElsewhere({ store, node }: DrainDeps): Promise<FreeNode[]> {
  const uses = new Map((await store.nodeUse()).map((use) => [use.node_id, use]));
  return (await store.nodes())
    .filter((other) => other.id !== node.id && !other.cordoned && !other.draining)
    .filter((other) => isHeard(other, store.clock.now()))
    .map(({ id, labels, capacity }) => ({
      id,
      labels,
      capacity: subtract(capacity, uses.get(id) ?? NO_RESOURCES),
    }));
}

/** Whether an instance has room on one of the places, which it has then. */
function reserveRoom(freeNodes: FreeNode[], instance: Instance): boolean {
  const placement = placementOf(instance);
  const freeNode = freeNodes.find((each) => suits(each, placement));
  if (freeNode) freeNode.capacity = subtract(freeNode.capacity, placement.needs);
  return freeNode !== undefined;
}

function placementOf({ config: { labels = {}, resources } }: Instance): Placement {
  return { node_id: null, labels, needs: resources };
}

function subtract(from: Operation["needs"], taken: Operation["needs"]): Operation["needs"] {
  return {
    vcpus: from.vcpus - taken.vcpus,
    memory_mb: from.memory_mb - taken.memory_mb,
    disk_gb: from.disk_gb - taken.disk_gb,
  };
}

/** @param tool the one that it is a part of: a move stops what is desired to run. */
function stopSubmission(
  { node, store: { clock } }: DrainDeps,
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
async function movableBuild(
  deps: DrainDeps,
  instance: Instance,
  freeNodes: FreeNode[],
): Promise<Build | null> {
  const build = await deps.store.build(null, instance.build_id);
  const elsewhere = deps.artifacts.shared && build.state === "ready" && build.image?.archive !== undefined;
  if (elsewhere && reserveRoom(freeNodes, instance)) return build;
  deps.logger.log(
    "info",
    "An instance can't be moved: no other node has room for it and can run its build.",
    {
      instance: instance.id,
    },
  );
  return null;
}

/** The same build once more, for any node. */
function moveSubmission({ store: { clock } }: DrainDeps, instance: Instance, build: Build): Submission {
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
