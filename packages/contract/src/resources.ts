// Counting vCPUs, memory and disk: what an instance holds on its node, and what an operation needs beyond
// that. The store and the nodes both count with these functions, so that nothing is promised twice.

import type { Resources } from "@formation-mcp/formfile";
import type { Instance, OperationInput } from "./records.ts";
import { INSTANCE_HOLDINGS, OPERATION_NEEDS } from "./states.ts";

/** The part of an instance that decides what it holds. */
export interface Holder extends Pick<Instance, "state" | "machine_id"> {
  /** Whether the node sees a process of its machine, whatever the record says. The store cannot see one. */
  hasProcess?: boolean;
}
type InstanceInput = Exclude<OperationInput, { kind: "build" }>;

const NOTHING: Resources = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

/** What the record of an instance says about its machine. */
export function machineOf({ state, machine_id }: Holder): "none" | "up" | "resting" | "unknown" {
  return machine_id === null ? "none" : INSTANCE_HOLDINGS[state].machine;
}

/**
 * What an instance holds on its node.
 * @param own the instance's `config.resources`.
 */
export function heldBy(instance: Holder, own: Resources): Resources {
  if (instance.machine_id === null || !INSTANCE_HOLDINGS[instance.state].disk) return NOTHING;
  const { vcpus, memory_mb, disk_gb } = own;
  return holdsCompute(instance) ? { vcpus, memory_mb, disk_gb } : { ...NOTHING, disk_gb };
}

/**
 * What an operation on an instance needs beyond what the instance holds, by {@link OPERATION_NEEDS}.
 * @param own the instance's `config.resources` now.
 * @param wanted its resources after the operation: for a ship those of the deployment, else the same as
 *   `own`.
 */
export function requiredFor(
  input: InstanceInput,
  instance: Holder,
  own: Pick<Resources, "vcpus" | "memory_mb">,
  wanted: Resources,
): Resources {
  const { compute, disk } = needsOf(input);
  const isUp = machineOf(instance) === "up" || instance.hasProcess === true;
  const isThere = input.kind === "ship" ? isUp : holdsCompute(instance);
  const missing = (what: "vcpus" | "memory_mb") =>
    compute === "missing" ? Math.max(0, wanted[what] - (isThere ? own[what] : 0)) : 0;
  return {
    vcpus: missing("vcpus"),
    memory_mb: missing("memory_mb"),
    disk_gb: disk === "whole" ? wanted.disk_gb : 0,
  };
}

function holdsCompute({ state, machine_id, hasProcess = false }: Holder): boolean {
  return machine_id !== null && (INSTANCE_HOLDINGS[state].compute || hasProcess);
}

function needsOf(input: InstanceInput) {
  return OPERATION_NEEDS[input.kind === "control" ? input.action : input.kind];
}
