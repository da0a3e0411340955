// Work that the node it woke could not take: it is told to all once, and of those whom it suits one after the other looks,
// each after a pause of its own, until one has it.

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
  /** Tells whom it may suit of a queued operation that this one could not take. */
  tell(operation: Operation): Promise<void>;
  /** Tells all nodes of an operation that this one knows nothing of. */
  tellAll(id: Id<"op">): Promise<void>;
  hear(event: ChangeEvent): void;
  /** This node has an operation: the others need not look for it, if they were told. */
  has(operation: Operation): void;
  close(): void;
}

/** The owner that events carry whose owner is not known: no account has this name. */
const NOBODY = "nodes";
const MOST_KNOWN = 1000;
const MOST_LOOKS = 100;
const ANYWHERE: Placement = { node_id: null, labels: {}, needs: { vcpus: 0, memory_mb: 0, disk_gb: 0 } };

export function createWorkOffers(
  deps: Pick<WorkerDeps, "queue" | "node" | "settings" | "random">,
  look: () => void,
): WorkOffers {
  const { node, queue, settings } = deps;
  const pausing = new Map<Id, NodeJS.Timeout>();
  /** What this node told itself: it need not look again. */
  const told = new Set<Id>();
  /** What all were told of. */
  const sought = new Set<Id>();

  const stop = (id: Id) => {
    clearTimeout(pausing.get(id));
    pausing.delete(id);
  };
  const note = (ids: Set<Id>, id: Id) => {
    // Events may be lost, so that some never come back to be struck out.
    if (ids.size >= MOST_KNOWN) ids.clear();
    ids.add(id);
  };
  const consider = (id: Id, wanted: Placement) => {
    if (wanted.node_id === null) note(sought, id);
    if (told.delete(id) || pausing.has(id) || !suits(node, wanted)) return;
    // Who looks takes what it finds: so many looks are enough for any number that waits.
    if (pausing.size >= MOST_LOOKS) return;
    const timer = setTimeout(() => {
      pausing.delete(id);
      look();
    }, deps.random() * settings.offerDelayMs);
    pausing.set(id, timer);
  };
  const emit = async (id: Id, owner: string, wanted: Placement) => {
    note(told, id);
    await queue.emit({ v: 1, id, owner, wanted, for: wanted.node_id ?? ALL_NODES });
  };
  return {
    tell: ({ id, owner, node_id, labels, needs }) => emit(id, owner, { node_id, labels, needs }),
    tellAll: (id) => emit(id, NOBODY, ANYWHERE),
    hear({ id, wanted }) {
      if (wanted) consider(id, wanted);
      // Somebody has it.
      else stop(id);
    },
    has({ id, owner }) {
      stop(id);
      if (sought.delete(id)) void queue.emit({ v: 1, id, owner, for: ALL_NODES }).catch(() => undefined);
    },
    close() {
      for (const timer of pausing.values()) clearTimeout(timer);
      pausing.clear();
      told.clear();
      sought.clear();
    },
  };
}
