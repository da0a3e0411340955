// Why a queued operation waits, as one sentence for its owner, who also has to learn if no node can ever take
// it. It names a node only if the operation is pinned to it: owners are not told which other nodes there are.

import {
  covers,
  hasLabels,
  isHeard,
  type NodeRecord,
  type Operation,
  type Placement,
} from "@formation-mcp/contract";

type Needs = Operation["needs"];

/** A queued operation, as far as its wait depends on it. */
export interface WaitingOperation extends Placement {
  /** The older unfinished operation on the same instance, if there is one. */
  behind: string | null;
}

/**
 * Says what an operation waits for.
 * @param now milliseconds since the epoch; it decides which nodes are silent.
 */
export function waitingReason(waiting: WaitingOperation, nodes: readonly NodeRecord[], now: number): string {
  const { needs, node_id, labels, behind } = waiting;
  if (behind !== null) return `Waiting for ${behind}, which works on the same record, to end.`;
  if (node_id !== null)
    return waitingForNode(
      waiting,
      nodes.find(({ id }) => id === node_id),
      now,
    );
  const open = nodes.filter((node) => isHeard(node, now) && !node.draining);
  if (open.length === 0) return "Waiting for a worker: none is running.";
  const labelled = open.filter((node) => hasLabels(node.labels, labels));
  const [asked, also] = [labelsText("with", labels), labelsText("and", labels)];
  if (labelled.length === 0) return `Waiting for a node${asked}: there is none.`;
  const taking = labelled.filter((node) => !node.cordoned);
  if (taking.length === 0) return `Waiting for a node${asked}: none takes work now, by the operator's wish.`;
  if (!taking.some(({ capacity }) => covers(capacity, needs))) {
    const largest = largestOf(taking.map(({ capacity }) => capacity));
    return `Waiting for a node with ${amount(needs)}${also}: no node is that large; the largest has ${amount(largest)}.`;
  }
  return `Waiting for a node with ${amount(needs)} free${also}.`;
}

/** The same for an operation that is pinned to a node. */
function waitingForNode(
  { needs, labels }: WaitingOperation,
  node: NodeRecord | undefined,
  now: number,
): string {
  if (!node) return "Waiting for a node that was removed.";
  const { name, capacity, heartbeat_at } = node;
  if (!isHeard(node, now)) {
    return `Waiting for the node ${name}, which is not heard of since ${new Date(heartbeat_at).toISOString()}.`;
  }
  if (node.draining) return `Waiting for the node ${name}, whose worker is leaving.`;
  if (!hasLabels(node.labels, labels))
    return `Waiting for the node ${name}, which is not ${labelsText("one with", labels).trim()}.`;
  if (!covers(capacity, needs)) {
    return `Waiting for ${amount(needs)} on the node ${name}, which has only ${amount(capacity)}.`;
  }
  return `Waiting for ${amount(needs)} free on the node ${name}.`;
}

/** The node with the most memory, and of these the one with the most vCPUs. */
function largestOf(capacities: Needs[]): Needs {
  const [first = { vcpus: 0, memory_mb: 0, disk_gb: 0 }] = capacities.sort(
    (a, b) => b.memory_mb - a.memory_mb || b.vcpus - a.vcpus || b.disk_gb - a.disk_gb,
  );
  return first;
}

function labelsText(word: string, labels: Placement["labels"]): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  return pairs.length === 0 ? "" : ` ${word} the label${pairs.length === 1 ? "" : "s"} ${pairs.join(", ")}`;
}

function amount({ vcpus, memory_mb, disk_gb }: Needs): string {
  return `${vcpus} vCPU${vcpus === 1 ? "" : "s"}, ${memory_mb} MB of memory and ${disk_gb} GB of disk`;
}
