// A proxy to PostgreSQL that breaks a connection at its commit: before the server receives the commit, or
// before its answer is passed on.

import { connect, createServer, type Socket } from "node:net";

type Break = "unheard" | "unanswered" | null;

export interface Proxy {
  url: string;
  /** What happens to the next commit. */
  next: Break;
  /** How many commits were broken. */
  broken: number;
  close(): Promise<void>;
}

export async function startProxy(target: string): Promise<Proxy> {
  const to = new URL(target);
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(Number(to.port), to.hostname);
    let deaf = false;
    const end = () => {
      client.destroy();
      upstream.destroy();
    };
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on("error", end).on("close", end);
    }
    client.on("data", (chunk) => {
      const how = chunk.includes("nextval(") ? proxy.next : null;
      if (how) {
        proxy.next = null;
        proxy.broken++;
      }
      if (how === "unheard") return end();
      if (how === "unanswered") deaf = true;
      upstream.write(chunk);
    });
    upstream.on("data", (chunk) => (deaf ? end() : client.write(chunk)));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = new URL(target);
  url.port = String((server.address() as { port: number }).port);
  const proxy: Proxy = {
    url: url.href,
    next: null,
    broken: 0,
    async close() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return proxy;
}
