// Offers between nodes. A node that was woken for an operation which it cannot claim offers it to all, once,
// by an event. Each node that the operation suits asks the store for work after a random pause; the first one
// that claims it says so, and the others then do not ask.

import {
  ALL_NODES,
  type ChangeEvent,
  type Id,
  type Operation,
  type Placement,
  suits,
} from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";

export interface WorkOffers {
  /** Offers a queued operation that this node cannot take to the nodes that it may suit. */
  offer(operation: Operation): Promise<void>;
  /** Offers an operation of which only the id is known to all nodes. */
  offerUnknown(id: Id<"op">): Promise<void>;
  /** Handles an event of another node, or of this one: an offer, or the news that an operation is taken. */
  onEvent(event: ChangeEvent): void;
  /** This node has claimed an operation. Tells the other nodes if it was offered to them. */
  taken(operation: Operation): void;
  close(): void;
}

/** The owner in events about an operation whose owner is not known. No account has this name. */
const UNKNOWN_OWNER = "nodes";
/** The placement of an operation of which nothing is known: every node. */
const ANY_PLACEMENT: Placement = {
  node_id: null,
  labels: {},
  needs: { vcpus: 0, memory_mb: 0, disk_gb: 0 },
};
/** Bounds how many offers are remembered. */
const MAX_REMEMBERED = 1000;
/** Bounds how many pauses run at a time. */
const MAX_PAUSES = 100;

/** @param askForWork asks the store for work. */
export function createWorkOffers(
  { queue, node, settings, random }: Pick<WorkerDeps, "queue" | "node" | "settings" | "random">,
  askForWork: () => void,
): WorkOffers {
  const pauses = new Map<Id, NodeJS.Timeout>();
  /** Operations that this node has offered and whose event has not come back: it need not ask for them. */
  const offeredHere = new Set<Id>();
  /** Operations that were offered to all nodes. */
  const offeredToAll = new Set<Id>();
  let closed = false;

  const stopPause = (id: Id) => {
    clearTimeout(pauses.get(id));
    pauses.delete(id);
  };
  const remember = (ids: Set<Id>, id: Id) => {
    // Events may be lost, so that some ids would never be removed.
    if (ids.size >= MAX_REMEMBERED) ids.clear();
    ids.add(id);
  };
  const consider = (id: Id, placement: Placement) => {
    if (placement.node_id === null) remember(offeredToAll, id);
    if (offeredHere.delete(id) || pauses.has(id) || !suits(node, placement)) return;
    // One round of claims takes everything that fits, so this many are enough for any number of offers.
    if (pauses.size >= MAX_PAUSES) return;
    const timer = setTimeout(() => {
      pauses.delete(id);
      askForWork();
    }, random() * settings.offerDelayMs);
    pauses.set(id, timer);
  };
  const emit = async (id: Id, owner: string, placement: Placement) => {
    remember(offeredHere, id);
    await queue.emit({ v: 1, id, owner, wanted: placement, for: placement.node_id ?? ALL_NODES });
  };
  return {
    offer: ({ id, owner, node_id, labels, needs }) => emit(id, owner, { node_id, labels, needs }),
    offerUnknown: (id) => emit(id, UNKNOWN_OWNER, ANY_PLACEMENT),
    onEvent({ id, wanted }) {
      if (closed) return;
      if (wanted) consider(id, wanted);
      // An event without a placement: a node has claimed the operation.
      else stopPause(id);
    },
    taken({ id, owner }) {
      stopPause(id);
      if (!offeredToAll.delete(id)) return;
      void queue.emit({ v: 1, id, owner, for: ALL_NODES }).catch(() => undefined);
    },
    close() {
      closed = true;
      for (const timer of pauses.values()) clearTimeout(timer);
      pauses.clear();
      offeredHere.clear();
      offeredToAll.clear();
    },
  };
}
