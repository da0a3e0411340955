// A TCP proxy between a client and a server on loopback that can be cut: open connections receive nothing
// more, as when a network fails, and new ones get no answer.

import { connect, createServer, type Socket } from "node:net";

export interface Cable {
  /** host:port. */
  address: string;
  cut(): void;
  mend(): void;
  close(): Promise<void>;
}

export async function lay(port: number): Promise<Cable> {
  const open = new Set<Socket>();
  let whole = true;
  const hold = (socket: Socket) => {
    open.add(socket);
    socket.on("error", () => {}).once("close", () => open.delete(socket));
  };
  const server = createServer((client) => {
    hold(client);
    if (!whole) return void client.pause();
    const beyond = connect(port, "127.0.0.1");
    hold(beyond);
    client.once("close", () => beyond.destroy());
    beyond.once("close", () => client.destroy());
    client.pipe(beyond).pipe(client);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The system gave no port.");
  return {
    address: `127.0.0.1:${address.port}`,
    cut() {
      whole = false;
      // Nothing is closed: each side has to detect the silence.
      for (const socket of open) {
        socket.unpipe();
        socket.pause();
      }
    },
    mend() {
      whole = true;
      for (const socket of open) socket.destroy();
    },
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
