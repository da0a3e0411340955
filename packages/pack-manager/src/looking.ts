// Work that the node it woke could not take: it is told to all once, and of those whom it suits one after the other looks,
// each after a pause of its own, until one has it.

import { type ChangeEvent, type Id, type Operation, type Placement, suits } from "@formation-mcp/contract";
import type { Room } from "./room.ts";

export interface Looking {
  /** Tells all nodes of a queued operation that this one could not take. */
  tell(operation: Operation): Promise<void>;
  /** Tells all nodes of an operation that this one knows nothing of. */
  tellAll(id: Id<"op">): Promise<void>;
  hear(event: ChangeEvent): void;
  close(): void;
}

/** The owner that events carry whose owner is not known: no account has this name. */
const NOBODY = "nodes";
const MOST_TOLD = 1000;
const ANYWHERE: Placement = { node_id: null, labels: {}, needs: { vcpus: 0, memory_mb: 0, disk_gb: 0 } };

export function createLooking(
  room: Pick<Room, "queue" | "node" | "settings" | "random">,
  look: () => void,
): Looking {
  const { node, queue, settings } = room;
  const pausing = new Map<Id, NodeJS.Timeout>();
  /** What this node told itself: it need not look again. */
  const told = new Set<Id>();

  const stop = (id: Id) => {
    clearTimeout(pausing.get(id));
    pausing.delete(id);
  };
  const consider = (id: Id, wanted: Placement) => {
    if (told.delete(id) || pausing.has(id) || !suits(node, wanted)) return;
    const timer = setTimeout(() => {
      pausing.delete(id);
      look();
    }, room.random() * settings.lookWithinMs);
    pausing.set(id, timer);
  };
  const emit = async (id: Id, owner: string, wanted: Placement) => {
    // Events may be lost, so that some never come back to be struck out.
    if (told.size >= MOST_TOLD) told.clear();
    told.add(id);
    await queue.emit({ v: 1, id, owner, wanted });
  };
  return {
    tell: ({ id, owner, node_id, labels, needs }) => emit(id, owner, { node_id, labels, needs }),
    tellAll: (id) => emit(id, NOBODY, ANYWHERE),
    hear({ id, wanted }) {
      if (wanted) consider(id, wanted);
      // It changed: somebody has it.
      else stop(id);
    },
    close() {
      for (const timer of pausing.values()) clearTimeout(timer);
      pausing.clear();
      told.clear();
    },
  };
}
