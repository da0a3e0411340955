// What this node has free, counted from the records, and from the machines where a record may be ahead of them: what machines
// use, and what running operations will need.

import type { Instance, Operation } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { RunningAttempt } from "./attempt.ts";
import { instancesHere } from "./reconcile.ts";
import type { Room } from "./room.ts";

type Resources = Operation["needs"];

/** States in which an instance's machine may have a process. */
const RUNS: Instance["state"][] = [
  "starting",
  "running",
  "pausing",
  "paused",
  "stopping",
  "lost",
  "deleting",
];
const RUN: MachineStatus["state"][] = ["running", "paused"];

/** What an instance's machine takes: memory and CPUs while it may run, disk as long as it is there. */
async function usedBy({ hypervisor }: Pick<Room, "hypervisor">, instance: Instance): Promise<Resources> {
  const none = { vcpus: 0, memory_mb: 0, disk_gb: 0 };
  const { machine_id, state } = instance;
  if (machine_id === null || state === "deleted") return none;
  const { vcpus, memory_mb, disk_gb } = instance.config.resources;
  // Who ends an operation whose worker fell silent writes `failed` without seeing the machine.
  const unseen = state === "failed" && RUN.includes((await hypervisor.inspect(machine_id)).state);
  return unseen || RUNS.includes(state) ? { vcpus, memory_mb, disk_gb } : { ...none, disk_gb };
}

/**
 * What may be claimed now. An instance whose operation runs is counted once, as the larger of what it had and what the
 * operation needs on top: nothing is promised twice, and nothing is counted twice.
 */
export async function freeCapacity(
  room: Pick<Room, "store" | "node" | "hypervisor">,
  running: Iterable<Pick<RunningAttempt, "operation" | "needs">>,
): Promise<Resources> {
  const free = { ...room.node.capacity };
  const take = (used: Resources) => {
    free.vcpus -= used.vcpus;
    free.memory_mb -= used.memory_mb;
    free.disk_gb -= used.disk_gb;
  };
  const starting = new Map<string, Resources>();
  for (const { operation, needs: taken } of running) {
    const { input } = operation;
    const needs = taken();
    const starts = input.kind === "control" && input.action !== "stop" && input.action !== "pause";
    if (starts) starting.set(input.instance_id, needs);
    else take(needs);
  }
  for await (const instance of instancesHere(room)) {
    const needs = starting.get(instance.id);
    starting.delete(instance.id);
    const used = await usedBy(room, instance);
    take(needs ? larger(used, needs) : used);
  }
  for (const needs of starting.values()) take(needs);
  // What needs nothing always fits.
  return {
    vcpus: Math.max(0, free.vcpus),
    memory_mb: Math.max(0, free.memory_mb),
    disk_gb: Math.max(0, free.disk_gb),
  };
}

function larger(a: Resources, b: Resources): Resources {
  return {
    vcpus: Math.max(a.vcpus, b.vcpus),
    memory_mb: Math.max(a.memory_mb, b.memory_mb),
    disk_gb: Math.max(a.disk_gb, b.disk_gb),
  };
}
