// What this node has free: what its machines take, by the records and by what is really here where records are ahead of it,
// and what running operations will need.

import {
  FormationError,
  INSTANCE_HOLDINGS,
  type Instance,
  needsOf,
  type Operation,
} from "@formation-mcp/contract";
import type { Room } from "../deps.ts";
import { deploymentOf, hasProcess, machineName } from "../machines/machine-ids.ts";
import { instancesHere } from "../reconcile/reconcile.ts";

type Resources = Operation["needs"];

const NOTHING: Resources = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

/** What a machine takes: memory and CPUs while it may run, disk as long as it is there. */
function taken({ vcpus, memory_mb, disk_gb }: Resources, runs: boolean): Resources {
  return runs ? { vcpus, memory_mb, disk_gb } : { ...NOTHING, disk_gb };
}

/**
 * What may be claimed now. An instance that an operation starts is counted once, as running or as what that needs if it is
 * more: nothing is promised twice, and nothing is counted twice. A machine that no record names any more,
 * of an instance that was replaced or went elsewhere, counts until it is gone.
 */
export async function freeCapacity(
  room: Pick<Room, "store" | "node" | "hypervisor">,
  running: Iterable<Operation>,
): Promise<Resources> {
  const free = { ...room.node.capacity };
  const take = (used: Resources) => {
    free.vcpus -= used.vcpus;
    free.memory_mb -= used.memory_mb;
    free.disk_gb -= used.disk_gb;
  };
  const operations = [...running];
  // Looked at before the records are: what goes in between is counted once too often, and nothing too seldom.
  const machines = new Map(
    (await room.hypervisor.list()).map((machine) => [machine.id, hasProcess(machine)]),
  );
  const starting = new Map<string, Resources>();
  for (const { input, needs, attempt } of operations) {
    if (input.kind === "control" && needsOf(input).compute === "missing")
      starting.set(input.instance_id, needs);
    else take(needs);
    if (input.kind === "ship") machines.delete(machineName(input.deployment_id, attempt));
  }
  for await (const instance of instancesHere(room)) {
    const used = usedBy(instance, machines);
    if (instance.machine_id !== null) machines.delete(instance.machine_id);
    const needs = starting.get(instance.id);
    starting.delete(instance.id);
    // What was asked to start while it ran needs nothing more; it may have ended since, and is about to take its room again.
    take(needs ? larger(taken(instance.config.resources, true), needs) : used);
  }
  for (const needs of starting.values()) take(needs);
  for (const [id, runs] of machines) take(await leftOver(room, id, runs));
  // What needs nothing always fits.
  return {
    vcpus: Math.max(0, free.vcpus),
    memory_mb: Math.max(0, free.memory_mb),
    disk_gb: Math.max(0, free.disk_gb),
  };
}

function usedBy({ machine_id, state, config }: Instance, machines: ReadonlyMap<string, boolean>): Resources {
  const holds = INSTANCE_HOLDINGS[state];
  if (machine_id === null || !holds.disk) return NOTHING;
  // Who ends an operation whose worker fell silent writes `failed` without seeing the machine.
  return taken(config.resources, holds.compute || machines.get(machine_id) === true);
}

async function leftOver({ store }: Pick<Room, "store">, machine: string, runs: boolean): Promise<Resources> {
  const id = deploymentOf(machine);
  if (id === null) return NOTHING;
  try {
    return taken((await store.deployment(null, id)).config.resources, runs);
  } catch (thrown) {
    if (thrown instanceof FormationError && thrown.code === "not_found") return NOTHING;
    throw thrown;
  }
}

function larger(a: Resources, b: Resources): Resources {
  return {
    vcpus: Math.max(a.vcpus, b.vcpus),
    memory_mb: Math.max(a.memory_mb, b.memory_mb),
    disk_gb: Math.max(a.disk_gb, b.disk_gb),
  };
}
