// One address for several servers: each connection goes to the next server that accepts it. In a real
// installation a load balancer does this, and TLS.

import { connect, createServer, type Socket } from "node:net";

export interface Balancer {
  url: string;
  port: number;
  /** How many connections each server got. */
  shares(): number[];
  close(): Promise<void>;
}

/** @param ports where the servers listen; it may change while the balancer runs. */
export async function startBalancer(ports: readonly number[], port = 0): Promise<Balancer> {
  const open = new Set<Socket>();
  const shares: number[] = [];
  let turn = 0;
  const server = createServer({ pauseOnConnect: true }, (client) => {
    open.add(client);
    client.on("error", () => {}).once("close", () => open.delete(client));
    const first = turn++;
    const attempt = (tried: number) => {
      if (tried === ports.length) return void client.destroy();
      const at = (first + tried) % ports.length;
      const backend = connect(ports[at] ?? 0, "127.0.0.1");
      const refused = () => attempt(tried + 1);
      backend.once("error", refused).once("connect", () => {
        backend.off("error", refused);
        shares[at] = (shares[at] ?? 0) + 1;
        open.add(backend);
        backend
          .on("error", () => client.destroy())
          .once("close", () => {
            open.delete(backend);
            client.destroy();
          });
        client.once("close", () => backend.destroy());
        client.pipe(backend).pipe(client);
      });
    };
    attempt(0);
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The system gave no port.");
  return {
    url: `http://127.0.0.1:${address.port}`,
    port: address.port,
    shares: () => ports.map((_, at) => shares[at] ?? 0),
    async close() {
      for (const socket of open) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
