// Whether a worker has nothing to do, so that its process may leave. This folder knows the node that the
// worker runs on: its record, what an admin asks of it, and which records of the store concern it.

import { everyItem } from "@formation-mcp/base";
import { LIMITS, RESTING_STATES } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import { instancesOnNode } from "./records.ts";

/**
 * Whether this node runs no operation, no queued operation waits for it or for any node, and none of its
 * instances runs or changes.
 */
export async function isNodeIdle(deps: Pick<WorkerDeps, "store" | "node">): Promise<boolean> {
  const { store, node } = deps;
  const unfinished = everyItem((cursor) =>
    store.operations({ owner: null, states: ["queued", "running"], limit: LIMITS.pageSize, cursor }),
  );
  for await (const operation of unfinished) {
    const mayBeOurs = operation.node_id === null || operation.node_id === node.id;
    if (operation.state === "queued" ? mayBeOurs : operation.claimed_by === node.id) return false;
  }
  // An instance that is stopped or failed does not start by itself, whatever its desired state is.
  for await (const { state } of instancesOnNode(deps)) {
    if (!RESTING_STATES.includes(state)) return false;
  }
  return true;
}
