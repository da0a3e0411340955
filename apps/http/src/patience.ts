// What a client may hold of the server: how many connections, and for how long with a body that it began to send. A body
// that trickles has a time; an upload may be long but must not stand still.

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

export interface PatienceOptions {
  /** For a whole body. */
  bodyMs: number;
  /** An upload must bring {@link UPLOAD_BYTES} in each such time. */
  uploadMs: number;
}

const UPLOAD_BYTES = 16 * 1024;

interface Watched {
  response: ServerResponse;
  upload: boolean;
  until: number;
  bytes: number;
}

/** Watches every request of a server that has a body. */
export function watchBodies(server: Server, { bodyMs, uploadMs }: PatienceOptions): void {
  const watched = new Map<IncomingMessage, Watched>();
  server.prependListener("request", (request: IncomingMessage, response: ServerResponse) => {
    if (request.headers["content-length"] === undefined && !request.headers["transfer-encoding"]) return;
    const upload = request.method === "PUT" && request.url?.split("?", 1)[0] === "/api/contexts";
    const until = performance.now() + (upload ? uploadMs : bodyMs);
    watched.set(request, { response, upload, until, bytes: request.socket.bytesRead });
    response.once("close", () => watched.delete(request));
  });
  const timer = setInterval(
    () => {
      const now = performance.now();
      for (const [request, seen] of watched) {
        if (request.complete) watched.delete(request);
        else if (now < seen.until) continue;
        else if (seen.upload && request.socket.bytesRead - seen.bytes >= UPLOAD_BYTES) {
          seen.bytes = request.socket.bytesRead;
          seen.until = now + uploadMs;
        } else giveUp(request, seen.response);
      }
    },
    Math.min(1000, bodyMs, uploadMs),
  );
  timer.unref();
  server.once("close", () => clearInterval(timer));
}

function giveUp(request: IncomingMessage, response: ServerResponse): void {
  if (!response.headersSent) response.writeHead(408, { connection: "close" }).end();
  request.socket.destroySoon();
}

/**
 * Watches every connection of a server.
 * @returns what closes those on which no request runs, also those that never sent one.
 */
export function watchConnections(server: Server): () => void {
  const running = new Map<Socket, number>();
  const count = (socket: Socket, change: number) => {
    const requests = running.get(socket);
    if (requests !== undefined) running.set(socket, requests + change);
  };
  const opened = (socket: Socket) => {
    running.set(socket, 0);
    socket.once("close", () => running.delete(socket));
  };
  // Over TLS a request's socket is the secure one, not the one below it.
  server.on("setSecureContext" in server ? "secureConnection" : "connection", opened);
  server.prependListener("request", ({ socket }: IncomingMessage, response: ServerResponse) => {
    count(socket, 1);
    response.once("close", () => count(socket, -1));
  });
  return () => {
    for (const [socket, requests] of running) if (requests === 0) socket.destroySoon();
  };
}

/**
 * Closes what an address opens beyond its share of all connections, so that nobody alone keeps everybody out.
 * @param shareOf what stands for a peer where connections are counted; null for a proxy, which brings many clients.
 */
export function shareConnections(
  server: Server,
  most: number,
  shareOf: (peer: string) => string | null,
): void {
  const open = new Map<string, number>();
  server.on("connection", (socket: Socket) => {
    const who = shareOf(socket.remoteAddress ?? "");
    if (who === null) return;
    const now = (open.get(who) ?? 0) + 1;
    if (now > most) {
      socket.destroy();
      return;
    }
    open.set(who, now);
    socket.once("close", () => {
      const left = (open.get(who) ?? 1) - 1;
      if (left > 0) open.set(who, left);
      else open.delete(who);
    });
  });
}
