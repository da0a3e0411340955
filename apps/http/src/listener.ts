// Hands requests of node:http to the OAuth server as they are, and to the gateway as web-standard requests.
// Both pass the same checks.

import type { IncomingMessage, RequestListener, ServerResponse } from "node:http";
import { type HttpServer, isOAuthPath } from "@formation-mcp/assembly/http";
import { getRequestListener } from "@hono/node-server";

export function createListener(server: HttpServer, publicUrl: string): RequestListener {
  const web = getRequestListener(
    (request, { incoming }) =>
      server.gateway.fetch(request, { address: incoming.socket.remoteAddress ?? "" }),
    { errorHandler: () => badRequest() },
  );
  return (request, response) => {
    // An absolute-form target is for proxies; it may name another host.
    if (request.url?.[0] !== "/" || request.url.startsWith("//")) {
      return void write(response, badRequest());
    }
    if (isOAuthPath(request.url)) {
      serveOAuth(server, publicUrl, request, response).catch(() => response.destroy());
    } else {
      web(request, response).catch(() => response.destroy());
    }
  };
}

async function serveOAuth(
  server: HttpServer,
  publicUrl: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const asked = {
    method: request.method ?? "GET",
    url: `${publicUrl}${request.url}`,
    headers: headersOf(request),
  };
  const guarded = await server.gateway.guard(asked, { address: request.socket.remoteAddress ?? "" });
  for (const [name, value] of Object.entries(guarded.headers)) response.setHeader(name, value);
  // A client that hung up during the checks is counted too; else it would stay in the metrics for ever.
  if (response.closed) return guarded.answered(response.statusCode);
  response.once("close", () => guarded.answered(response.statusCode));
  if (guarded.refused) return write(response, guarded.refused);
  if (await server.oauth(request, response, guarded.address)) return;
  await write(response, Response.json({ error: "not_found" }, { status: 404 }));
}

function headersOf({ headers }: IncomingMessage): Headers {
  const made = new Headers();
  for (const [name, value] of Object.entries(headers)) {
    if (value !== undefined) made.set(name, Array.isArray(value) ? value.join(", ") : value);
  }
  return made;
}

async function write(response: ServerResponse, answer: Response): Promise<void> {
  const body = Buffer.from(await answer.arrayBuffer());
  answer.headers.forEach((value, name) => {
    response.setHeader(name, value);
  });
  // The unread rest of a body must not be parsed as the next request.
  response.setHeader("connection", "close");
  response.writeHead(answer.status).end(body);
}

function badRequest(): Response {
  const code = "invalid";
  const message = "This is no request for this server.";
  return Response.json(
    { status: "error", data: null, message, code, error: { code, message } },
    { status: 400, headers: { "x-content-type-options": "nosniff", "cache-control": "no-store" } },
  );
}
