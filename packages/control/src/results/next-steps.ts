// The `next` text of a result: which tool to call next, with which id.

import {
  type Build,
  type DeploymentState,
  hasEnded,
  type Instance,
  type Operation,
} from "@formation-mcp/contract";

export function followUp(operation: Operation): string {
  return `Still ${operation.state}: call operation_get with id ${operation.id} until done is true.`;
}

export function afterBuild(build: Build, operation?: Operation): string {
  if (operation && !hasEnded(operation)) return followUp(operation);
  switch (build.state) {
    case "ready":
      return `Call pack_ship with build_id ${build.id} to run it as a VM.`;
    case "failed":
      return "Correct what the error names and call pack_build again.";
    case "cancelled":
      return "Call pack_build again if it is still wanted.";
    default:
      return `Call operation_get with id ${build.operation_id} until done is true.`;
  }
}

export function afterShip(
  instance: Instance,
  state: DeploymentState,
  urls: string[],
  operation: Operation,
): string {
  if (!hasEnded(operation)) return followUp(operation);
  if (state !== "live") return `Call vm_status with instance ${instance.name}.`;
  const ask = urls.length > 0 ? `It answers at ${urls[0]}. ` : "It runs; nothing is exposed. ";
  return `${ask}Call vm_status or vm_logs with instance ${instance.name} to look at it.`;
}

export function afterChange(instance: Instance, operation: Operation | null): string {
  if (operation && !hasEnded(operation)) return followUp(operation);
  if (instance.state === "deleted") return "Nothing is left of it.";
  return `Call vm_status with instance ${instance.name} to look at it.`;
}

export function aboutInstance(instance: Instance, operation: Operation | null): string {
  if (operation && !hasEnded(operation)) return followUp(operation);
  switch (instance.state) {
    case "running":
      return instance.observed?.endpoints.length
        ? "It runs. Use its urls, or vm_logs to read what it prints."
        : "It runs. Use vm_logs to read what it prints.";
    case "stopped":
      return "Call vm_control with action start to run it again.";
    case "paused":
      return "Call vm_control with action resume to go on.";
    case "failed":
      return "Read vm_logs; then pack_ship a corrected build with replace: true, or vm_control with action start.";
    case "lost":
      return instance.desired === "deleted"
        ? "It is deleted when its node returns, or an operator removes that."
        : "Its node is not heard of: it comes back with it. If that never will, an admin removes the node with force, then call pack_ship with replace: true; or vm_delete.";
    case "deleted":
      return "Nothing is left of it.";
    default:
      return "Call vm_status again in a few seconds.";
  }
}
