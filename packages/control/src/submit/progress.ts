// The progress of an unfinished operation and, if it waits, the reason. This folder knows how an operation is
// submitted, replayed, waited for and reported.

import { type Clock, hasEnded, type NodeRecord, type Operation } from "@formation-mcp/contract";
import { waitingReason } from "@formation-mcp/operations";
import type { ControlDeps } from "../deps.ts";
import { progressView } from "../results/views.ts";

interface ShownProgress {
  progress?: { step: string; message: string; fraction: number | null };
}

export async function progressOf(deps: ControlDeps, operation: Operation): Promise<ShownProgress> {
  if (hasEnded(operation)) return {};
  if (operation.state !== "queued") return progressView(operation.progress);
  return { progress: { step: "queued", message: await whyQueued(deps, operation), fraction: null } };
}

async function whyQueued({ store, clock }: ControlDeps, operation: Operation): Promise<string> {
  const now = clock.now();
  if (operation.error && operation.run_at > now) {
    const seconds = Math.ceil((operation.run_at - now) / 1000);
    return `Attempt ${operation.attempt} failed; it is tried again in ${seconds} s.`;
  }
  const [nodes, behind] = await Promise.all([recentNodes(store, clock), olderThan(store, operation)]);
  return waitingReason({ ...operation, behind }, nodes, now);
}

/** The nodes are cached for this long, so that not every answer reads hundreds of records. */
const NODES_CACHED_MS = 2000;
const cachedNodes = new WeakMap<ControlDeps["store"], { at: number; nodes: Promise<NodeRecord[]> }>();

function recentNodes(store: ControlDeps["store"], clock: Clock): Promise<NodeRecord[]> {
  const now = clock.now();
  const before = cachedNodes.get(store);
  if (before && Math.abs(now - before.at) < NODES_CACHED_MS) return before.nodes;
  const nodes = store.nodes();
  cachedNodes.set(store, { at: now, nodes });
  nodes.catch(() => cachedNodes.delete(store));
  return nodes;
}

/** The unfinished operation on the same instance that runs first, if there is one. */
async function olderThan(
  store: ControlDeps["store"],
  { id, owner, input }: Operation,
): Promise<string | null> {
  if (input.kind === "build") return null;
  const states: Operation["state"][] = ["queued", "running"];
  const { items } = await store.operations({ owner, states, target: input.instance_id, limit: 20 });
  return items.find((other) => other.id < id)?.id ?? null;
}
