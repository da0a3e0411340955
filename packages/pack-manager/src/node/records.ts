// Queries of the store that several parts of a worker need.

import { everyItem } from "@formation-mcp/base";
import { type Id, type Instance, LIMITS, type Operation } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";

/** The instances whose records name this node. */
export function instancesOnNode(deps: Pick<WorkerDeps, "store" | "node">): AsyncGenerator<Instance> {
  return everyItem((cursor) =>
    deps.store.instances({ owner: null, node_id: deps.node.id, limit: LIMITS.pageSize, cursor }),
  );
}

/** The unfinished operations on an instance, newest first; at most one page of them. */
export async function unfinishedOperations(
  deps: Pick<WorkerDeps, "store">,
  target: Id<"vm">,
): Promise<Operation[]> {
  const states: Operation["state"][] = ["queued", "running"];
  return (await deps.store.operations({ owner: null, states, target, limit: LIMITS.pageSize })).items;
}
