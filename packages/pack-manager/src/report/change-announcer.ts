// Sends an event when a record changes. The first one of a record is sent at once; later ones are merged and
// sent after a pause. This folder knows what a worker tells the world: events, progress and log lines.

import type { ChangeEvent, Id, Logger } from "@formation-mcp/contract";
import type { Queue } from "@formation-mcp/queue";

export interface ChangeAnnouncer {
  changed(owner: string, ...ids: Id[]): void;
  /** Sends the events that wait. */
  close(): Promise<void>;
}

export function createChangeAnnouncer(queue: Queue, logger: Logger, pauseMs = 100): ChangeAnnouncer {
  /** Records within their pause, and the last event that came meanwhile. */
  const pausing = new Map<Id, { timer: NodeJS.Timeout; waiting: ChangeEvent | null }>();
  const sending = new Set<Promise<void>>();

  const send = (event: ChangeEvent) => {
    const sent: Promise<void> = queue
      .emit(event)
      .catch((error: Error) => logger.log("debug", `An event was lost: ${error.message}`))
      .finally(() => sending.delete(sent));
    sending.add(sent);
  };
  const pause = (id: Id) => {
    const timer = setTimeout(() => {
      const waiting = pausing.get(id)?.waiting;
      pausing.delete(id);
      if (!waiting) return;
      send(waiting);
      pause(id);
    }, pauseMs);
    timer.unref();
    pausing.set(id, { timer, waiting: null });
  };

  return {
    changed(owner, ...ids) {
      for (const id of ids) {
        const event: ChangeEvent = { v: 1, id, owner };
        const entry = pausing.get(id);
        if (entry) entry.waiting = event;
        else {
          send(event);
          pause(id);
        }
      }
    },
    async close() {
      for (const { timer, waiting } of pausing.values()) {
        clearTimeout(timer);
        if (waiting) send(waiting);
      }
      pausing.clear();
      await Promise.all(sending);
    },
  };
}
