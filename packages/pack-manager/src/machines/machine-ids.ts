// Ids of machines: `<deployment id>.<attempt>`. Only this file takes one apart. This folder knows what a
// machine is to the records: whose it is, what its status means, and which state may follow which.

import { everyItem } from "@formation-mcp/base";
import { FormationError, type Id, type Instance, idKind } from "@formation-mcp/contract";
import type { Hypervisor, MachineStatus } from "@formation-mcp/hypervisor";
import type { WorkerDeps } from "../deps.ts";

export function machineName(deployment: Id<"dep">, attempt: number): string {
  return `${deployment}.${attempt}`;
}

/** Whether a machine has a process. */
export function hasProcess({ state }: Pick<MachineStatus, "state">): boolean {
  return state === "running" || state === "paused";
}

/** The deployment that made a machine; null if the id has another form. */
export function deploymentOf(machineId: string): Id<"dep"> | null {
  const deployment = machineId.slice(0, machineId.lastIndexOf("."));
  return idKind(deployment) === "dep" ? (deployment as Id<"dep">) : null;
}

/** The machines on this node that a deployment made, in all of its attempts. */
export async function machinesOfDeployment(hypervisor: Hypervisor, deployment: Id<"dep">): Promise<string[]> {
  const machines = await hypervisor.list();
  return machines.map((machine) => machine.id).filter((id) => deploymentOf(id) === deployment);
}

/** The machines on this node that the deployments of an instance made. */
export async function machinesOfInstance(deps: WorkerDeps, instance: Instance): Promise<string[]> {
  const here = new Set((await deps.hypervisor.list()).map((machine) => machine.id));
  const found = new Set<string>();
  if (instance.machine_id && here.has(instance.machine_id)) found.add(instance.machine_id);
  if (here.size === 0) return [];
  const deployments = everyItem((cursor) =>
    deps.store.deployments({ owner: null, instance_id: instance.id, limit: 50, cursor }),
  );
  for await (const deployment of deployments) {
    for (const id of here) if (deploymentOf(id) === deployment.id) found.add(id);
  }
  return [...found];
}

/**
 * Whether the machine of an instance is on another node. That node removes it once the record names a machine
 * elsewhere.
 */
export function isElsewhere({ node }: Pick<WorkerDeps, "node">, instance: Instance): boolean {
  return instance.machine_id !== null && instance.node_id !== null && instance.node_id !== node.id;
}

/**
 * @throws FormationError `conflict` if the instance was shipped to another node while the operation waited
 * for this one.
 */
export function refuseMoved(deps: Pick<WorkerDeps, "node">, instance: Instance, step: string): void {
  if (!isElsewhere(deps, instance)) return;
  throw new FormationError("conflict", `"${instance.name}" is on another node by now.`, {
    step,
    remedy: "Call the tool again: it finds the instance where it is.",
  });
}

/** A legal label of a host name, from the name of an instance (RFC 1123, section 2.1). */
export function hostnameFor(name: string): string {
  const label = name
    .toLowerCase()
    .replace(/[^a-z0-9-]+/g, "-")
    .slice(0, 63)
    .replace(/^-+|-+$/g, "");
  return label || "vm";
}
