// One request on its way through the door: what the guards learnt of it, and the one line that the log has of it.

import { FormationError, type Logger } from "@formation-mcp/contract";
import { fail } from "./error-response.ts";
import type { Arrival } from "./request-policy.ts";

/** What of a request the guards look at. */
export type Asked = Pick<Request, "method" | "url" | "headers">;

/** What the gateway knows of a request, and what its handlers read. */
export interface Visit {
  arrival: Arrival;
  traceId: string;
  began: number;
  /** The route's pattern, once it is known. */
  action: string;
  owner: string | null;
}

/** The path of a request, without its query. */
export function pathOf(request: Asked): string {
  const from = request.url.indexOf("/", request.url.indexOf("//") + 2);
  const to = request.url.search(/[?#]/);
  return from < 0 ? "/" : request.url.slice(from, to < 0 ? undefined : to);
}

/** What broke inside is told to the operator, with the trace id that the caller has too. */
export function failed(logger: Logger, visit: Visit, thrown: unknown): Response {
  const error = FormationError.from(thrown);
  if (error.code === "internal") {
    const cause =
      error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : String(error.cause);
    logger.log("error", "A request failed inside the server.", { trace_id: visit.traceId, cause });
  }
  return fail(error);
}

/** One line a request: no query, no token, no character that a log could take for something else. */
export function accessLog(
  logger: Logger,
  request: Asked,
  path: string,
  visit: Visit,
  status: number,
  seconds: number,
): void {
  logger.log("info", "request", {
    method: plain(request.method, 10),
    path: plain(hideCodes(path), 200),
    status,
    ms: Math.round(seconds * 10_000) / 10,
    address: visit.arrival.address,
    owner: visit.owner,
    trace_id: visit.traceId,
    agent: plain(request.headers.get("user-agent") ?? "", 120),
  });
}

/** The last part of a path below /auth may be a code that signs somebody in. */
function hideCodes(path: string): string {
  return path.replace(/^(\/(?:auth|oauth)\/[a-z-]+)\/.*$/, "$1/…");
}

function plain(text: string, most: number): string {
  return text.slice(0, most).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
}
