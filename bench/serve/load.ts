// Repeats one request over a number of keep-alive connections, in a separate process. No HTTP library is part
// of the measurement: it sends bytes and finds the end of each response by its length.

import { connect, type Socket } from "node:net";

interface Order {
  port: number;
  /** The whole request as bytes on the wire. */
  request: string;
  connections: number;
  seconds: number;
}

/** The result of a load; latencies are in milliseconds. */
export interface Seen {
  perSecond: number;
  p50: number;
  p99: number;
  /** Bytes of the last answer's body. */
  bytes: number;
}

async function load({ port, request, connections, seconds }: Order): Promise<Seen> {
  const bytes = Buffer.from(request);
  const latencies: number[] = [];
  const end = performance.now() + seconds * 1000;
  let body = 0;
  const one = () =>
    new Promise<void>((resolve, reject) => {
      const socket = connect(port, "127.0.0.1");
      let sent = 0;
      let received: Buffer = Buffer.alloc(0);
      const send = () => {
        sent = performance.now();
        socket.write(bytes);
      };
      socket.setNoDelay(true).once("error", reject).once("connect", send);
      socket.on("data", (chunk: Buffer) => {
        received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
        const length = answered(received);
        if (length === null) return;
        body = length;
        received = Buffer.alloc(0);
        const now = performance.now();
        latencies.push(now - sent);
        if (now < end) send();
        else finish(socket, resolve);
      });
      socket.once("close", () => reject(new Error("The server closed a kept connection.")));
    });
  const began = performance.now();
  await Promise.all(Array.from({ length: connections }, one));
  const took = (performance.now() - began) / 1000;
  latencies.sort((a, b) => a - b);
  const at = (part: number) => latencies[Math.floor(latencies.length * part)] ?? Number.NaN;
  return { perSecond: latencies.length / took, p50: at(0.5), p99: at(0.99), bytes: body };
}

function finish(socket: Socket, done: () => void): void {
  socket.removeAllListeners("close").once("close", done).destroy();
}

/**
 * The length of a complete response, or null while it is incomplete. A status other than 200 ends the load.
 */
function answered(received: Buffer): number | null {
  const head = received.indexOf("\r\n\r\n");
  if (head < 0) return null;
  const text = received.toString("latin1", 0, head);
  if (!text.startsWith("HTTP/1.1 200")) throw new Error(received.toString("utf8", 0, 400));
  const length = /\r\ncontent-length: (\d+)/i.exec(text)?.[1];
  if (length !== undefined) return received.length >= head + 4 + Number(length) ? Number(length) : null;
  return received.includes("\r\n0\r\n\r\n", head) ? received.length - head - 4 : null;
}

process.once("message", (order: Order) => {
  load(order).then(
    (seen) => process.send?.(seen, () => process.disconnect()),
    (error: Error) => {
      process.stderr.write(`${error.message}\n`);
      process.exit(1);
    },
  );
});
