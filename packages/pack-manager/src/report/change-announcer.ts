// Tells whoever waits that a record changed: at once the first time, then at most every so often per record.

import type { ChangeEvent, Id, Logger } from "@formation-mcp/contract";
import type { Queue } from "@formation-mcp/queue";

export interface ChangeAnnouncer {
  changed(owner: string, ...ids: Id[]): void;
  /** Sends what still waits. */
  close(): Promise<void>;
}

export function createChangeAnnouncer(queue: Queue, logger: Logger, everyMs = 100): ChangeAnnouncer {
  /** Records told of lately; the event is the one that came since. */
  const quiet = new Map<Id, { timer: NodeJS.Timeout; waiting: ChangeEvent | null }>();
  const sending = new Set<Promise<void>>();

  const send = (event: ChangeEvent) => {
    const sent: Promise<void> = queue
      .emit(event)
      .catch((error: Error) => logger.log("debug", `An event was lost: ${error.message}`))
      .finally(() => sending.delete(sent));
    sending.add(sent);
  };
  const hush = (id: Id) => {
    const timer = setTimeout(() => {
      const waiting = quiet.get(id)?.waiting;
      quiet.delete(id);
      if (!waiting) return;
      send(waiting);
      hush(id);
    }, everyMs);
    timer.unref();
    quiet.set(id, { timer, waiting: null });
  };

  return {
    changed(owner, ...ids) {
      for (const id of ids) {
        const event: ChangeEvent = { v: 1, id, owner };
        const entry = quiet.get(id);
        if (entry) entry.waiting = event;
        else {
          send(event);
          hush(id);
        }
      }
    },
    async close() {
      for (const { timer, waiting } of quiet.values()) {
        clearTimeout(timer);
        if (waiting) send(waiting);
      }
      quiet.clear();
      await Promise.all(sending);
    },
  };
}
