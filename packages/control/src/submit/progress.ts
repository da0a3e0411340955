// Where an unfinished operation is; and if it still waits, why.

import { type Clock, hasEnded, type NodeRecord, type Operation } from "@formation-mcp/contract";
import { waitingReason } from "@formation-mcp/operations";
import type { Deps } from "../deps.ts";
import { progressView } from "../results/views.ts";

interface Shown {
  progress?: { step: string; message: string; fraction: number | null };
}

export async function progressOf(deps: Deps, operation: Operation): Promise<Shown> {
  if (hasEnded(operation)) return {};
  if (operation.state !== "queued") return progressView(operation.progress);
  return { progress: { step: "queued", message: await whyQueued(deps, operation), fraction: null } };
}

async function whyQueued({ store, clock }: Deps, operation: Operation): Promise<string> {
  const now = clock.now();
  if (operation.error && operation.run_at > now) {
    const seconds = Math.ceil((operation.run_at - now) / 1000);
    return `Attempt ${operation.attempt} failed; it is tried again in ${seconds} s.`;
  }
  const [nodes, behind] = await Promise.all([nodesOf(store, clock), olderThan(store, operation)]);
  return waitingReason({ ...operation, behind }, nodes, now);
}

/** What the nodes were at most so long ago: of hundreds of them not every answer asks anew. */
const KNOWN_MS = 2000;
const known = new WeakMap<Deps["store"], { at: number; nodes: Promise<NodeRecord[]> }>();

function nodesOf(store: Deps["store"], clock: Clock): Promise<NodeRecord[]> {
  const now = clock.now();
  const before = known.get(store);
  if (before && Math.abs(now - before.at) < KNOWN_MS) return before.nodes;
  const nodes = store.nodes();
  known.set(store, { at: now, nodes });
  nodes.catch(() => known.delete(store));
  return nodes;
}

/** The unfinished operation on the same instance that goes first, if there is one. */
async function olderThan(store: Deps["store"], { id, owner, input }: Operation): Promise<string | null> {
  if (input.kind === "build") return null;
  const states: Operation["state"][] = ["queued", "running"];
  const { items } = await store.operations({ owner, states, target: input.instance_id, limit: 20 });
  return items.find((other) => other.id < id)?.id ?? null;
}
