// How long a client may take to send what it began to send. A body that trickles holds a connection and a handler, so it has
// a time; an upload may be long but must not stand still.

import type { IncomingMessage, Server, ServerResponse } from "node:http";

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
    const upload = request.method === "PUT" && request.url === "/api/contexts";
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
