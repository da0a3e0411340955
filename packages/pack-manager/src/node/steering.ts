// Rate limit for events that say that this node's record changed, because an admin cordons or drains the
// node. Every account that may send events can send them, so that the record is read once a second at most.

import type { WorkerDeps } from "../deps.ts";

export interface Steering {
  /** Reads the record now, or as soon as the pause since the last read is over. */
  changed(): void;
  close(): void;
}

/** The least time between two reads of the node's record that events cause. */
const READ_PAUSE_MS = 1000;

export function createSteering(
  { monotonic }: Pick<WorkerDeps, "monotonic">,
  readRecord: () => void,
): Steering {
  let timer: NodeJS.Timeout | null = null;
  let readAt = Number.NEGATIVE_INFINITY;
  const read = () => {
    timer = null;
    readAt = monotonic();
    readRecord();
  };
  return {
    changed() {
      timer ??= setTimeout(read, Math.max(0, readAt + READ_PAUSE_MS - monotonic()));
    },
    close() {
      if (timer) clearTimeout(timer);
    },
  };
}
