// What happens to the instances of a drained node. Servers stop them, or ship their builds again so that
// other nodes run them; workers may not submit operations. Disks are not moved: an instance that moves starts
// anew from its image. A move is a stop and a shipment. An instance that is stopped but wanted running is
// halfway, and the next check continues its move. Any number of servers may check at the same time.

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

/**
 * The states whose instances a drain handles, in this order. Halfway moves come first, so that they get the
 * free resources of other nodes. A paused instance is not moved: on another node it would run.
 */
const DRAINED_STATES: Record<"stop" | "move", readonly Instance["state"][]> = {
  stop: ["running", "paused"],
  move: ["stopped", "running"],
};
const NO_RESOURCES = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
/**
 * A shipment that no worker takes within this time ends. The drainer submits it again while another node has
 * room.
 */
const MOVE_QUEUED_MS = 10 * 60_000;
/** How often a server checks for drained nodes. Admins watch a drain, so it is short. */
const DEFAULT_EVERY_MS = 5000;
/** How often a shipment is submitted again because the instance changed in between (compare-and-set). */
const MAX_ATTEMPTS = 5;
/** Another node that takes work, with its free capacity. */
type FreeNode = Pick<NodeRecord, "id" | "labels" | "capacity">;

export interface DrainerOptions {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  logger?: Logger;
  /** How often it checks, in milliseconds. Default: 5 s. */
  everyMs?: number;
}

export interface Drainer {
  /**
   * Submits every operation that drained nodes still need. A failure is logged, and tried again at the next
   * check.
   */
  look(): Promise<void>;
  close(): Promise<void>;
}

interface DrainDeps extends Required<Omit<DrainerOptions, "everyMs">> {
  /** The node that is drained. */
  node: NodeRecord;
}

/** Starts to check drained nodes periodically. */
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
    // An instance that is already on the way has reserved its room.
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
  // The owner did not ask for this, so the event tells watchers of the instance that its desired state
  // changed.
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
    // Meanwhile the owner may have asked for another state, or another server may have submitted the
    // shipment.
    if (now.desired !== "running") return;
    if ((await unfinishedOperations(deps, instance.id)).some(({ subject }) => subject === SUBJECTS.ship))
      return;
    try {
      return await submitAndEmit(deps, moveSubmission(deps, now, build));
    } catch (error) {
      // The stop operation may run meanwhile and change the instance.
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

/** Reserves room for an instance on one of the nodes. Returns false if no node has enough. */
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

/**
 * Builds the submission that stops an instance.
 * @param tool `DRAIN_TOOL` if the stop is the first half of a move: then the desired state stays running.
 */
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

/**
 * The build of an instance if another node can run it and has room; otherwise null, and the instance stays.
 */
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

/** Builds the submission that ships the same build again, to any node. */
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
