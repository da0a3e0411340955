// The consumer of wake-ups that any node may take. It is open only while this node has free capacity, so
// that a full node never takes a wake-up that another one could use.

import { quietly, type WakeMessage } from "@formation-mcp/contract";
import type { Consumer } from "@formation-mcp/queue";
import type { WorkerDeps } from "../deps.ts";

export interface WakeConsumer {
  /** Opens or closes the consumer as soon as possible. The last call counts. */
  setOpen(isOpen: boolean): void;
  close(): Promise<void>;
}

export interface WakeConsumerOptions {
  subject: string;
  onWake(message: WakeMessage): Promise<void>;
  /** Called when wake-ups may have been missed, because the connection was lost. */
  onMissed(): void;
}

export function createWakeConsumer(
  { queue, logger }: Pick<WorkerDeps, "queue" | "logger">,
  { subject, onWake, onMissed }: WakeConsumerOptions,
): WakeConsumer {
  let wanted = false;
  let consumer: Consumer | null = null;
  let switching: Promise<void> | null = null;

  const differs = () => wanted !== (consumer !== null);
  const change = async () => {
    const former = consumer;
    if (wanted) consumer = await queue.consume([subject], { slots: 1, missed: onMissed }, onWake);
    else {
      await former?.close();
      consumer = null;
    }
  };
  /** Call it only while they differ: a run that ends at once would set `switching` to null too early. */
  const switchOver = async () => {
    while (differs()) {
      const isDone = await quietly(logger, `${wanted ? "begin" : "stop"} to take ${subject}`, change);
      // The next call of `setOpen` tries again. Until then the node polls the store.
      if (!isDone) break;
    }
    switching = null;
  };
  const setOpen = (isOpen: boolean) => {
    wanted = isOpen;
    if (differs()) switching ??= switchOver();
  };
  return {
    setOpen,
    async close() {
      setOpen(false);
      await switching;
    },
  };
}
