// Records against reality: what the instances of this node are said to be is made to agree with the machines that are
// here. An instance whose operation runs is left to that operation.

import { everyItem } from "@formation-mcp/base";
import {
  FormationError,
  type Id,
  type Instance,
  LIMITS,
  type Operation,
  quietly,
  RESTING_STATES,
} from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { InstancePatch } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import { deploymentOf } from "../machines/machine-ids.ts";
import { differs, observedOf } from "../machines/observed.ts";
import { statePath } from "../machines/state-path.ts";
import { removeAll } from "../operations/delete.ts";
import { type Decision, decide } from "./rules.ts";

export interface Reconciler {
  /** Looks at every instance and every machine of this node, once. */
  all(): Promise<void>;
  /** Looks soon at the instance of a machine that changed. */
  machineChanged(machineId: string): void;
  /** Looks soon at an instance: what happened to it during an operation was left to that. */
  instanceChanged(id: Id<"vm">): void;
  close(): Promise<void>;
}

/** An observation that says nothing new is written this often, so that `seen_at` is true. */
const SEEN_EVERY_MS = 60_000;
const SETTLE_MS = 100;

/** @param ours whether an attempt of this worker runs that makes machines for a deployment. */
export function createReconciler(deps: WorkerDeps, ours: (deployment: Id<"dep">) => boolean): Reconciler {
  const soon = new Map<string, NodeJS.Timeout>();
  const looking = new Set<Promise<unknown>>();
  let closed = false;

  const track = (promise: Promise<unknown>) => {
    looking.add(promise);
    void promise.finally(() => looking.delete(promise));
  };
  const later = (key: string, look: () => Promise<void>) => {
    if (closed || soon.has(key)) return;
    const timer = setTimeout(() => {
      soon.delete(key);
      track(quietly(deps.logger, `look at ${key}`, look));
    }, SETTLE_MS);
    soon.set(key, timer);
  };
  const all = async () => {
    // Machines first: one that is made after this list is not missed by what is read next.
    const machines = await deps.hypervisor.list();
    const instances: Instance[] = [];
    for await (const each of instancesHere(deps)) instances.push(each);
    for (const instance of instances) {
      if (closed) return;
      await quietly(deps.logger, `reconcile ${instance.id}`, () =>
        deps.locks.tryRun(instance.id, () => lookAt(deps, instance.id)),
      );
    }
    for (const machine of machines) {
      if (closed) return;
      await quietly(deps.logger, `see whose ${machine.id} is`, () => adoptOrRemove(deps, machine, ours));
    }
  };
  return {
    all() {
      const done = all();
      track(done.catch(() => {}));
      return done;
    },
    machineChanged: (machineId) =>
      later(machineId, async () => {
        const instance = await instanceIdOf(deps, machineId);
        if (instance !== null) await lookIfFree(deps, instance);
      }),
    instanceChanged: (id) => later(id, () => lookIfFree(deps, id)),
    async close() {
      closed = true;
      for (const timer of soon.values()) clearTimeout(timer);
      soon.clear();
      await Promise.all(looking);
    },
  };
}

export function instancesHere(deps: Pick<WorkerDeps, "store" | "node">): AsyncGenerator<Instance> {
  return everyItem((cursor) =>
    deps.store.instances({ owner: null, node_id: deps.node.id, limit: LIMITS.pageSize, cursor }),
  );
}

/** The unfinished operations about an instance, newest first. */
export async function unfinished(deps: Pick<WorkerDeps, "store">, target: Id<"vm">): Promise<Operation[]> {
  const states: Operation["state"][] = ["queued", "running"];
  return (await deps.store.operations({ owner: null, states, target, limit: LIMITS.pageSize })).items;
}

async function instanceIdOf(deps: WorkerDeps, machineId: string): Promise<Id<"vm"> | null> {
  const deployment = deploymentOf(machineId);
  if (deployment === null) return null;
  try {
    return (await deps.store.deployment(null, deployment)).instance_id;
  } catch (thrown) {
    if (thrown instanceof FormationError && thrown.code === "not_found") return null;
    throw thrown;
  }
}

async function lookIfFree(deps: WorkerDeps, id: Id<"vm">): Promise<void> {
  await deps.locks.tryRun(id, () => lookAt(deps, id));
}

/** The holder of the instance's lock looks once, and tries again when somebody else wrote in between. */
async function lookAt(deps: WorkerDeps, id: Id<"vm">): Promise<void> {
  for (let tries = 0; tries < 3; tries++) {
    try {
      return await look(deps, id);
    } catch (thrown) {
      if (!(thrown instanceof FormationError) || thrown.code !== "conflict") throw thrown;
    }
  }
}

async function look(deps: WorkerDeps, id: Id<"vm">): Promise<void> {
  const instance = await deps.store.instance(null, id);
  if (instance.state === "deleted" || instance.node_id !== deps.node.id) return;
  const { machine_id } = instance;
  const status = machine_id === null ? NO_MACHINE : await deps.hypervisor.inspect(machine_id);
  const ports = await portsOf(deps, instance);
  const facts = { instance, status, ports, hostBootedAt: deps.hostBootedAt() };
  const decision = decide({ ...facts, pending: (await unfinished(deps, id)).length > 0 });
  if (machine_id !== null && status.state !== "absent") deps.follow(machine_id, id);
  // The record names it, so its shipment is settled: whoever wrote that may have died before he could release it.
  if (machine_id !== null && !RESTING_STATES.includes(decision.state))
    await deps.hypervisor.release(machine_id);
  if (decision.action === "remove") await removeAll(deps, instance);
  if (decision.action === "stop" && machine_id !== null) {
    await deps.hypervisor.stop(machine_id, { timeoutMs: deps.settings.stopMs });
  }
  await write(deps, instance, decision, status);
}

async function portsOf(deps: WorkerDeps, instance: Instance): Promise<number[]> {
  const build = await deps.store.build(null, instance.build_id).catch(() => null);
  return build?.image?.expose ?? [];
}

async function write(
  deps: WorkerDeps,
  instance: Instance,
  decision: Decision,
  before: MachineStatus,
): Promise<void> {
  const { machine_id } = instance;
  const now = deps.clock.now();
  const status =
    decision.action === "none" || machine_id === null ? before : await deps.hypervisor.inspect(machine_id);
  const patch: InstancePatch = {};
  if (decision.state !== instance.state) {
    patch.state = decision.state;
    if (decision.error !== undefined) patch.error = await withTail(deps, instance, decision);
    deps.logger.log("info", `An instance is ${decision.state}.`, {
      instance: instance.id,
      was: instance.state,
      because: decision.error?.message,
    });
  }
  if (decision.state === "deleted") Object.assign(patch, { machine_id: null, observed: null, error: null });
  else if (machine_id !== null) {
    const observed = observedOf(status, now);
    const stale =
      status.state === "running" && now - (instance.observed?.seen_at ?? 0) >= SEEN_EVERY_MS * 0.9;
    if (differs(instance.observed, observed) || stale) patch.observed = observed;
  }
  if (Object.keys(patch).length === 0) return;
  let latest = instance;
  const way = statePath(instance.state, decision.state);
  for (const state of way.slice(0, -1)) {
    latest = await deps.store.observe(instance.id, latest.version, { state });
  }
  await deps.store.observe(instance.id, latest.version, patch);
  deps.announcer.changed(instance.owner, instance.id);
}

/** The reason with the last lines the guest printed. */
async function withTail(deps: WorkerDeps, instance: Instance, decision: Decision) {
  if (!decision.error || decision.error.log_tail) return decision.error ?? null;
  const since = instance.observed?.started_at ?? 0;
  const log_tail = await deps.logs.tail(instance.id, since).catch(() => []);
  return log_tail.length > 0 ? { ...decision.error, log_tail } : decision.error;
}

/** A machine that no record knows is left over from something that came to nothing. */
async function adoptOrRemove(
  deps: WorkerDeps,
  machine: MachineStatus,
  ours: (deployment: Id<"dep">) => boolean,
): Promise<void> {
  const deployment = deploymentOf(machine.id);
  // Asked before the record is read: an attempt that ended by now has written what it made.
  if (deployment !== null && ours(deployment)) return;
  const id = await instanceIdOf(deps, machine.id);
  const instance = id === null ? null : await deps.store.instance(null, id);
  if (instance?.machine_id === machine.id && instance.state !== "deleted") return;
  deps.logger.log("info", "A machine that no record knows is removed.", { machine: machine.id });
  await deps.hypervisor.remove(machine.id);
}

const NO_MACHINE: MachineStatus = {
  id: "",
  state: "absent",
  pid: null,
  accelerator: null,
  endpoints: [],
  egress: { mode: "none", reason: "There is no machine." },
  guest: { started_at: null, listening: [], exit_code: null, problem: null },
  exit: null,
  problem: null,
};
