// Opens the NATS queue on its own connection, as each process of a deployment does.

import { type ConnectNatsOptions, connectNats } from "@formation-mcp/os/nats";
import type { Queue } from "@formation-mcp/queue";
import { type NatsQueueOptions, openNatsQueue } from "@formation-mcp/queue/nats";

export interface OpenOptions {
  nats: ConnectNatsOptions;
  queue: Omit<NatsQueueOptions, "connection">;
}

/** The queue; closing it closes its connection. */
export async function openOwn(options: OpenOptions): Promise<Queue> {
  const connection = await connectNats(options.nats);
  const queue = await openNatsQueue({ connection, ...options.queue });
  const close = queue.close.bind(queue);
  queue.close = async () => {
    await close();
    await connection.close();
  };
  return queue;
}
