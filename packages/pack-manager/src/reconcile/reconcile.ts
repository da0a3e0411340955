// Makes the records of this node's instances agree with the machines that are here, and removes machines that
// no record names. An instance with a running operation is left to it. This folder knows how records and
// reality are brought together.

import { FormationError, type Id, type Instance, quietly, RESTING_STATES } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { InstancePatch } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import { deploymentOf } from "../machines/machine-ids.ts";
import { differs, observedOf } from "../machines/observed.ts";
import { statePath } from "../machines/state-path.ts";
import { instancesOnNode, unfinishedOperations } from "../node/records.ts";
import { removeInstance } from "../operations/delete.ts";
import { type Decision, decide } from "./rules.ts";

export interface Reconciler {
  /** Reconciles every instance and every machine of this node once. */
  all(): Promise<void>;
  /** Reconciles the instance of a machine soon, because the machine changed. */
  machineChanged(machineId: string): void;
  /** Reconciles an instance soon, because an operation on it has ended and left changes to reconciling. */
  instanceChanged(id: Id<"vm">): void;
  /** Resolves when no reconciliation runs. */
  close(): Promise<void>;
}

/** An unchanged observation is written about this often, so that `seen_at` stays recent. */
const SEEN_EVERY_MS = 60_000;
/** Changes within this time are reconciled once. */
const DEBOUNCE_MS = 100;
/** How often an instance is reconciled again at once because its record changed meanwhile. */
const MAX_TRIES = 3;

/** @param isMadeByAttempt whether an attempt of this worker runs that makes machines for a deployment. */
export function createReconciler(
  deps: WorkerDeps,
  isMadeByAttempt: (deployment: Id<"dep">) => boolean,
): Reconciler {
  const timers = new Map<string, NodeJS.Timeout>();
  const running = new Set<Promise<unknown>>();
  let closed = false;

  const track = (promise: Promise<unknown>) => {
    running.add(promise);
    void promise.finally(() => running.delete(promise));
  };
  const soon = (key: string, action: () => Promise<void>) => {
    if (closed || timers.has(key)) return;
    const timer = setTimeout(() => {
      timers.delete(key);
      track(quietly(deps.logger, `look at ${key}`, action));
    }, DEBOUNCE_MS);
    timers.set(key, timer);
  };
  const all = async () => {
    // Machines are listed first: the records that are read next then name every machine in the list that is
    // still wanted.
    const machines = await deps.hypervisor.list();
    const instances: Instance[] = [];
    for await (const each of instancesOnNode(deps)) instances.push(each);
    for (const instance of instances) {
      if (closed) return;
      await quietly(deps.logger, `reconcile ${instance.id}`, () =>
        deps.locks.tryRun(instance.id, () => reconcile(deps, instance.id)),
      );
    }
    for (const machine of machines) {
      if (closed) return;
      await quietly(deps.logger, `see whose ${machine.id} is`, () =>
        removeUnknown(deps, machine, isMadeByAttempt),
      );
    }
  };
  return {
    all() {
      const done = all();
      track(done.catch(() => {}));
      return done;
    },
    machineChanged: (machineId) =>
      soon(machineId, async () => {
        const instance = await instanceIdOf(deps, machineId);
        if (instance !== null) await reconcileIfFree(deps, instance);
      }),
    instanceChanged: (id) => soon(id, () => reconcileIfFree(deps, id)),
    async close() {
      closed = true;
      for (const timer of timers.values()) clearTimeout(timer);
      timers.clear();
      await Promise.all(running);
    },
  };
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

/** Does nothing while an attempt or another reconciliation holds the instance's lock. */
async function reconcileIfFree(deps: WorkerDeps, id: Id<"vm">): Promise<void> {
  await deps.locks.tryRun(id, () => reconcile(deps, id));
}

/** Call it with the instance's lock held. Tries again if another writer changed the record meanwhile. */
async function reconcile(deps: WorkerDeps, id: Id<"vm">): Promise<void> {
  for (let tries = 0; tries < MAX_TRIES; tries++) {
    try {
      return await reconcileOnce(deps, id);
    } catch (thrown) {
      if (!(thrown instanceof FormationError) || thrown.code !== "conflict") throw thrown;
    }
  }
}

async function reconcileOnce(deps: WorkerDeps, id: Id<"vm">): Promise<void> {
  const instance = await deps.store.instance(null, id);
  if (instance.state === "deleted" || instance.node_id !== deps.node.id) return;
  const { machine_id } = instance;
  const status = machine_id === null ? NO_MACHINE : await deps.hypervisor.inspect(machine_id);
  const ports = await portsOf(deps, instance);
  const facts = { instance, status, ports, hostBootedAt: deps.hostBootedAt() };
  const decision = decide({ ...facts, pending: (await unfinishedOperations(deps, id)).length > 0 });
  if (machine_id !== null && status.state !== "absent") deps.followers.follow(machine_id, id);
  // The record names the machine, so its shipment is complete; the worker may have died before it took the
  // machine off the leash.
  if (machine_id !== null && !RESTING_STATES.includes(decision.state))
    await deps.hypervisor.release(machine_id);
  if (decision.action === "remove") await removeInstance(deps, instance);
  if (decision.action === "stop" && machine_id !== null) {
    await deps.hypervisor.stop(machine_id, { timeoutMs: deps.settings.stopMs });
  }
  await writeDecision(deps, instance, decision, status);
}

async function portsOf(deps: WorkerDeps, instance: Instance): Promise<number[]> {
  const build = await deps.store.build(null, instance.build_id).catch(() => null);
  return build?.image?.expose ?? [];
}

async function writeDecision(
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
    if (decision.error !== undefined) patch.error = await withLogTail(deps, instance, decision);
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
  const path = statePath(instance.state, decision.state);
  for (const state of path.slice(0, -1)) {
    latest = await deps.store.observe(instance.id, latest.version, { state });
  }
  await deps.store.observe(instance.id, latest.version, patch);
  deps.announcer.changed(instance.owner, instance.id);
}

/** The error of a decision, with the last lines that the guest printed. */
async function withLogTail(deps: WorkerDeps, instance: Instance, decision: Decision) {
  if (!decision.error || decision.error.log_tail) return decision.error ?? null;
  const since = instance.observed?.started_at ?? 0;
  const log_tail = await deps.logs.tail(instance.id, since).catch(() => []);
  return log_tail.length > 0 ? { ...decision.error, log_tail } : decision.error;
}

/** Removes a machine that no record names: it is left over from an attempt that did not succeed. */
async function removeUnknown(
  deps: WorkerDeps,
  machine: MachineStatus,
  isMadeByAttempt: (deployment: Id<"dep">) => boolean,
): Promise<void> {
  const deployment = deploymentOf(machine.id);
  // Checked before the record is read: an attempt that has ended by now has written what it made.
  if (deployment !== null && isMadeByAttempt(deployment)) return;
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
