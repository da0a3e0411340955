// Requests and answers of node:http as this room needs them: the secret is that oidc-provider never sees a request as it
// came, only one that was read whole, with the few headers it needs and with our own origin instead of what `Host` says.

import { IncomingMessage, type ServerResponse } from "node:http";
import { FormationError } from "@formation-mcp/contract";
import { BODY_FIELD, errorBody, statusOf } from "../http/error-response.ts";

const BODY_BYTES = 48 * 1024;

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
 * Reads a body whole.
 * @throws FormationError `limit` if it has more than 48 KiB; what follows is not read.
 */
export async function readBody(request: IncomingMessage): Promise<Buffer> {
  const tooLarge = () =>
    new FormationError("limit", "The request is larger than 48 KiB.", {
      remedy: "Send less.",
      field: BODY_FIELD,
    });
  if (Number(request.headers["content-length"] ?? 0) > BODY_BYTES) throw tooLarge();
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > BODY_BYTES) throw tooLarge();
    chunks.push(chunk);
  }
  return Buffer.concat(chunks, bytes);
}

/** The same request, remade for oidc-provider: see above. */
export function remake(
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
    // The provider trusts its proxy, and its proxy is this.
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

/**
 * Headers of every answer of this room; pages add what they need. No Cross-Origin-Opener-Policy: web apps open the
 * sign-in in a window of theirs and wait for it to come back.
 */
export const SAFE_HEADERS: Readonly<Record<string, string>> = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  "referrer-policy": "same-origin",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

/** Writes an answer whole. */
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

/** An error as the REST API spells it. */
export function sendError(response: ServerResponse, error: FormationError): void {
  sendJson(response, statusOf(error), errorBody(error));
}

/**
 * A JSON object.
 * @throws FormationError `invalid` if the body is none, or is said to be something else.
 */
export function jsonObject(request: IncomingMessage, body: Buffer): Record<string, unknown> {
  const type = request.headers["content-type"]?.split(";")[0]?.trim().toLowerCase();
  try {
    const value: unknown = type === "application/json" ? JSON.parse(body.toString("utf8")) : null;
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // Said below.
  }
  throw new FormationError("invalid", "The request has no JSON object in it.", {
    remedy: "Send a JSON object with content-type: application/json.",
  });
}

/** What is said of a path that leads nowhere. */
export function nothingHere(): FormationError {
  return new FormationError("not_found", "There is nothing here.", {
    remedy: "Look at the server's metadata.",
  });
}
