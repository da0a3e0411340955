// Bounds of what a client may hold of the server: how many connections, and how long it may take to send a
// body. A body has a time limit as a whole; an upload may take long but must make progress.

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

export interface BodyTimeouts {
  /** For a whole body that is no upload. */
  bodyMs: number;
  /** An upload must bring at least {@link UPLOAD_BYTES} in each period of this length. */
  uploadMs: number;
}

const UPLOAD_BYTES = 16 * 1024;

interface RequestBody {
  response: ServerResponse;
  upload: boolean;
  until: number;
  bytes: number;
}

/** Answers 408 and closes the connection when a request's body exceeds its time. */
export function watchBodies(server: Server, { bodyMs, uploadMs }: BodyTimeouts): void {
  const watched = new Map<IncomingMessage, RequestBody>();
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
        } else timeOut(request, seen.response);
      }
    },
    Math.min(1000, bodyMs, uploadMs),
  );
  timer.unref();
  server.once("close", () => clearInterval(timer));
}

function timeOut(request: IncomingMessage, response: ServerResponse): void {
  if (!response.headersSent) response.writeHead(408, { connection: "close" }).end();
  request.socket.destroySoon();
}

/**
 * Watches every connection of a server.
 * @returns a function that closes those on which no request runs, also those that never sent one.
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
  // Over TLS a request's socket is the TLS socket, not the TCP socket below it.
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
 * Bounds the connections of one address, so that one client cannot take all of them.
 * @param maxPerAddress closes what an address opens beyond this.
 * @param keyOf the key under which a peer's connections are counted; null for a proxy, which brings many
 *   clients.
 */
export function limitConnections(
  server: Server,
  maxPerAddress: number,
  keyOf: (peer: string) => string | null,
): void {
  const open = new Map<string, number>();
  server.on("connection", (socket: Socket) => {
    const key = keyOf(socket.remoteAddress ?? "");
    if (key === null) return;
    const now = (open.get(key) ?? 0) + 1;
    if (now > maxPerAddress) {
      socket.destroy();
      return;
    }
    open.set(key, now);
    socket.once("close", () => {
      const left = (open.get(key) ?? 1) - 1;
      if (left > 0) open.set(key, left);
      else open.delete(key);
    });
  });
}
