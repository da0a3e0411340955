// When this node takes wake-ups that are for any node: only while it has room, so that none is lost on a full one.

import { quietly, type WakeMessage } from "@formation-mcp/contract";
import type { Consumer } from "@formation-mcp/queue";
import type { WorkerDeps } from "../deps.ts";

export interface WakeConsumer {
  /** Begins or stops to take them, as soon as may be. */
  want(open: boolean): void;
  close(): Promise<void>;
}

export function createWakeConsumer(
  deps: Pick<WorkerDeps, "queue" | "logger">,
  subject: string,
  handler: (message: WakeMessage) => Promise<void>,
  missed: () => void,
): WakeConsumer {
  let wanted = false;
  let consumer: Consumer | null = null;
  let settling: Promise<void> | null = null;

  const differs = () => wanted !== (consumer !== null);
  /** Begun only while they differ: what ended at once would not be seen to have ended. */
  const settle = async () => {
    while (differs()) {
      const done = await quietly(deps.logger, `${wanted ? "begin" : "stop"} to take ${subject}`, async () => {
        const former = consumer;
        if (wanted) consumer = await deps.queue.consume([subject], { slots: 1, missed }, handler);
        else {
          await former?.close();
          consumer = null;
        }
      });
      // What asks next tries again; until then the node looks for work by itself.
      if (!done) break;
    }
    settling = null;
  };
  const want = (open: boolean) => {
    wanted = open;
    if (differs()) settling ??= settle();
  };
  return {
    want,
    async close() {
      want(false);
      await settling;
    },
  };
}
