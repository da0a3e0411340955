// Requests and responses of node:http. oidc-provider never sees an original request: it gets one that is read
// whole, with the few headers that it needs, and with our own origin instead of the Host header.

import { IncomingMessage, type ServerResponse } from "node:http";
import { FormationError } from "@formation-mcp/contract";
import { BODY_FIELD, errorBody, statusOf } from "../http/error-response.ts";

const MAX_BODY_BYTES = 48 * 1024;

const PASSED_ON = [
  "accept",
  "accept-language",
  "access-control-request-headers",
  "access-control-request-method",
  "authorization",
  "content-type",
  "cookie",
  "origin",
  "sec-fetch-site",
  "user-agent",
  "x-form-token",
] as const;

/**
 * Reads the body whole.
 * @throws FormationError `limit` if it has more than 48 KiB; the rest is not read.
 */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = () =>
    new FormationError("limit", "The request is larger than 48 KiB.", {
      remedy: "Send less.",
      field: BODY_FIELD,
    });
  if (Number(request.headers["content-length"] ?? 0) > MAX_BODY_BYTES) throw tooLarge();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

/** The same request with only the headers that oidc-provider needs, our own origin, and the body given. */
export function sanitizeRequest(
  original: IncomingMessage,
  changes: { origin: URL; url: string; address: string; body?: Buffer },
): IncomingMessage {
  const { origin, url, address, body = Buffer.alloc(0) } = changes;
  const made = new IncomingMessage(original.socket);
  made.method = original.method ?? "GET";
  made.url = url;
  made.httpVersion = "1.1";
  made.httpVersionMajor = 1;
  made.httpVersionMinor = 1;
  const kept: NodeJS.Dict<string> = {};
  for (const name of PASSED_ON) {
    const value = original.headers[name];
    if (typeof value === "string") kept[name] = value;
  }
  made.headers = {
    ...kept,
    host: origin.host,
    // The provider trusts its proxy, which is this function.
    "x-forwarded-for": address,
    "x-forwarded-host": origin.host,
    "x-forwarded-proto": origin.protocol.slice(0, -1),
    ...(made.method === "GET" || made.method === "HEAD" ? {} : { "content-length": String(body.length) }),
  };
  if (body.length > 0) made.push(body);
  made.push(null);
  made.complete = true;
  return made;
}

/** Writes a whole response; for HEAD without the body. */
export function send(
  response: ServerResponse,
  status: number,
  body: string | Buffer,
  headers: Readonly<Record<string, string>>,
): void {
  for (const [name, value] of Object.entries(headers)) response.setHeader(name, value);
  response.statusCode = status;
  response.setHeader("content-length", Buffer.byteLength(body));
  response.end(response.req.method === "HEAD" ? undefined : body);
}

export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  send(response, status, JSON.stringify(body), { "content-type": "application/json; charset=utf-8" });
}

/** A public document, which any web page may read. */
export function sendPublic(response: ServerResponse, body: string, type: string): void {
  send(response, 200, body, {
    "content-type": type,
    "cache-control": "public, max-age=60",
    "access-control-allow-origin": "*",
  });
}

/** An error in the REST API's envelope. */
export function sendError(response: ServerResponse, error: FormationError): void {
  sendJson(response, statusOf(error), errorBody(error));
}

/**
 * The JSON object in the body.
 * @throws FormationError `invalid` if it is not one, or has another content type.
 */
export function jsonObject(request: IncomingMessage, body: Buffer): Record<string, unknown> {
  const type = request.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  try {
    const value: unknown = type === "application/json" ? JSON.parse(body.toString("utf8")) : null;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // The error below says it.
  }
  throw new FormationError("invalid", "The request has no JSON object in it.", {
    remedy: "Send a JSON object with content-type: application/json.",
  });
}

/** The error of an unknown path. */
export function notFound(): FormationError {
  return new FormationError("not_found", "There is nothing here.", {
    remedy: "Look at the server's metadata.",
  });
}
