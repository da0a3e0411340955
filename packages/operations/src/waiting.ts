// Why a queued operation waits, in one line for a person: what fits nobody must say so.

import { LIMITS, type NodeRecord, type Operation } from "@formation-mcp/contract";

type Needs = Operation["needs"];

/** A node that was silent for this long is not counted on. */
const NODE_SILENT_MS = 2 * LIMITS.reconcileEveryMs;

export interface Waiting {
  needs: Needs;
  node_id: Operation["node_id"];
  /** The older unfinished operation on the same instance, if there is one. */
  behind: string | null;
}

/** Says what the operation waits for, given what the nodes have. */
export function waitingFor({ needs, node_id, behind }: Waiting, nodes: NodeRecord[], now: number): string {
  if (behind !== null) return `Waiting for ${behind}, which works on the same record, to end.`;
  const alive = nodes.filter((node) => !node.draining && now - node.heartbeat_at < NODE_SILENT_MS);
  const fit = alive.filter((node) => node_id === null || node.id === node_id);
  if (node_id !== null && fit.length === 0) {
    const name = nodes.find((node) => node.id === node_id)?.name ?? node_id;
    return `Waiting for the node ${name}, which is not running a worker now.`;
  }
  if (fit.length === 0) return "Waiting for a worker: none is running.";
  if (!fit.some((node) => covers(node.capacity, needs))) {
    const has = fit.map((node) => `${node.name} has ${amount(node.capacity)}`).slice(0, 3);
    return `Waiting for a node with ${amount(needs)}; no node is that large (${has.join("; ")}).`;
  }
  return `Waiting for a node with ${amount(needs)} free.`;
}

function covers(has: Needs, needs: Needs): boolean {
  return has.vcpus >= needs.vcpus && has.memory_mb >= needs.memory_mb && has.disk_gb >= needs.disk_gb;
}

function amount({ vcpus, memory_mb, disk_gb }: Needs): string {
  return `${vcpus} vCPU${vcpus === 1 ? "" : "s"}, ${memory_mb} MB of memory and ${disk_gb} GB of disk`;
}
