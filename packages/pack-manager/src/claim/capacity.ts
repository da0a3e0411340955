// The free capacity of this node: its capacity less what its instances hold, by their records and by the
// processes that the node sees, and less what running operations need. The store counts with the same
// functions. This folder knows how operations come to this node: what fits it, and when it claims.

import {
  FormationError,
  type Holder,
  heldBy,
  type Id,
  type Instance,
  type Operation,
  type OperationInput,
  requiredFor,
} from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import { deploymentOf, hasProcess, machineName } from "../machines/machine-ids.ts";
import { instancesOnNode } from "../node/records.ts";

type Resources = Operation["needs"];

const NOTHING: Resources = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

/**
 * What operations that this node claims now may need. A machine that no record names any more, because its
 * instance was replaced or moved to another node, counts until it is removed.
 * @param running the operations that run on this node.
 */
export async function freeCapacity(
  deps: Pick<WorkerDeps, "store" | "node" | "hypervisor">,
  running: Iterable<Operation>,
): Promise<Resources> {
  const free = { ...deps.node.capacity };
  const take = (used: Resources) => {
    free.vcpus -= used.vcpus;
    free.memory_mb -= used.memory_mb;
    free.disk_gb -= used.disk_gb;
  };
  const operations = [...running];
  // Listed before the records are read: what changes in between may be counted twice, but is never left out.
  const machines = new Map(
    (await deps.hypervisor.list()).map((machine) => [machine.id, hasProcess(machine)]),
  );
  const withoutInstance = new Set(operations);
  for (const { input, attempt } of operations) {
    if (input.kind === "ship") machines.delete(machineName(input.deployment_id, attempt));
  }
  for await (const instance of instancesOnNode(deps)) {
    const { id, machine_id, config } = instance;
    const holder = { ...instance, hasProcess: machine_id !== null && machines.get(machine_id) === true };
    take(heldBy(holder, config.resources));
    if (machine_id !== null) machines.delete(machine_id);
    for (const operation of operations) {
      const { input } = operation;
      if (input.kind === "build" || input.instance_id !== id) continue;
      withoutInstance.delete(operation);
      take(await requiredNow(deps, input, operation.needs, holder));
    }
  }
  for (const { needs } of withoutInstance) take(needs);
  for (const [id, runs] of machines) take(await heldByUnnamed(deps, id, runs));
  // Never negative, so that an operation that needs nothing always fits.
  return {
    vcpus: Math.max(0, free.vcpus),
    memory_mb: Math.max(0, free.memory_mb),
    disk_gb: Math.max(0, free.disk_gb),
  };
}

/**
 * What a running operation needs beyond what its instance holds now. Its own `needs` are as of its claim: the
 * instance may have run then and have ended since, so that all of it has to start.
 */
async function requiredNow(
  { store }: Pick<WorkerDeps, "store">,
  input: Exclude<OperationInput, { kind: "build" }>,
  claimed: Resources,
  instance: Instance & Holder,
): Promise<Resources> {
  const own = instance.config.resources;
  if (input.kind !== "ship") return requiredFor(input, instance, own, own);
  // A new instance holds nothing, so the needs are all that its deployment wants.
  if (instance.machine_id === null) return claimed;
  const wanted = await resourcesOf(store, input.deployment_id);
  return wanted ? requiredFor(input, instance, own, wanted) : claimed;
}

/** What a machine holds that no record names. */
async function heldByUnnamed(
  { store }: Pick<WorkerDeps, "store">,
  machine: string,
  runs: boolean,
): Promise<Resources> {
  const deployment = deploymentOf(machine);
  const resources = deployment === null ? null : await resourcesOf(store, deployment);
  if (!resources) return NOTHING;
  const { vcpus, memory_mb, disk_gb } = resources;
  return runs ? { vcpus, memory_mb, disk_gb } : { ...NOTHING, disk_gb };
}

async function resourcesOf(store: WorkerDeps["store"], deployment: Id<"dep">): Promise<Resources | null> {
  try {
    return (await store.deployment(null, deployment)).config.resources;
  } catch (thrown) {
    if (thrown instanceof FormationError && thrown.code === "not_found") return null;
    throw thrown;
  }
}
