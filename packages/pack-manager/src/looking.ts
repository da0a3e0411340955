// Work that the node it woke could not take: it is told to all once, and of those whom it suits one after the other looks,
// each after a pause of its own, until one has it.

import { type ChangeEvent, type Id, type Operation, type Placement, suits } from "@formation-mcp/contract";
import type { Room } from "./room.ts";

export interface Looking {
  /** Tells all nodes of a queued operation that this one could not take. */
  tell(operation: Operation): Promise<void>;
  hear(event: ChangeEvent): void;
  close(): void;
}

export function createLooking(
  room: Pick<Room, "queue" | "node" | "settings">,
  look: () => void,
  random: () => number = Math.random,
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
    }, random() * settings.lookWithinMs);
    pausing.set(id, timer);
  };
  return {
    async tell({ id, owner, node_id, labels, needs }) {
      told.add(id);
      await queue.emit({ v: 1, id, owner, wanted: { node_id, labels, needs } });
    },
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
