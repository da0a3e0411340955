// Small servers on loopback for tests: a proxy that adds a token, and a trap that records its visitors.

import { createServer, type RequestListener, request } from "node:http";
import type { AddressInfo } from "node:net";

export interface Loopback {
  /** The origin, without a slash at its end. */
  url: string;
  close(): Promise<void>;
}

export async function serveLoopback(
  handler: RequestListener,
  onConnection: () => void = () => {},
): Promise<Loopback> {
  const server = createServer(handler).on("connection", onConnection);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

export interface Trap extends Loopback {
  /** `METHOD path` of every request. */
  visits: string[];
}

/** A page that no program should request. */
export async function openTrap(answer: RequestListener = (_, response) => response.end("{}")): Promise<Trap> {
  const visits: string[] = [];
  const server = await serveLoopback((incoming, outgoing) => {
    visits.push(`${incoming.method} ${incoming.url}`);
    answer(incoming, outgoing);
  });
  return { ...server, visits };
}

/**
 * A proxy that adds a bearer token, for programs without token support. A Host header with its own name
 * becomes that of the server; any other, as in DNS rebinding, passes unchanged.
 */
export async function bearerProxy(upstream: string, token: string): Promise<Loopback> {
  const target = new URL(upstream);
  const own: { host: string } = { host: "" };
  const translate = (value: string | undefined) => value?.replace(own.host, target.host);
  const proxy = await serveLoopback((incoming, outgoing) => {
    const host = translate(incoming.headers.host);
    const origin = translate(incoming.headers.origin);
    const forward = request(
      {
        host: target.hostname,
        port: target.port,
        method: incoming.method,
        path: incoming.url,
        headers: {
          ...incoming.headers,
          authorization: `Bearer ${token}`,
          ...(host ? { host } : {}),
          ...(origin ? { origin } : {}),
        },
      },
      (reply) => {
        outgoing.writeHead(reply.statusCode ?? 502, reply.headers);
        reply.pipe(outgoing);
      },
    );
    forward.on("error", () => outgoing.destroy());
    outgoing.on("close", () => forward.destroy());
    incoming.pipe(forward);
  });
  own.host = new URL(proxy.url).host;
  return proxy;
}
