// The access log: one line for each request. This folder knows what every HTTP request of the server passes
// through, and what every response has in common: guards, bearer authentication, rate limits, errors,
// headers, metrics and logs.

import { replaceUnprintable } from "@formation-mcp/base";
import type { Logger } from "@formation-mcp/contract";
import type { RequestContext, RequestHead } from "./request-context.ts";

/**
 * Writes the line of one request. It holds no query, no token, and no character that a log viewer could
 * misread.
 * @param seconds from the request's arrival to the head of its response.
 */
export function logRequest(
  logger: Logger,
  request: RequestHead,
  path: string,
  context: RequestContext,
  { status, seconds }: { status: number; seconds: number },
): void {
  logger.log("info", "request", {
    method: plain(request.method, 10),
    path: plain(hideCodes(path), 200),
    status,
    ms: Math.round(seconds * 10_000) / 10,
    address: context.verdict.address,
    owner: context.owner,
    trace_id: context.traceId,
    agent: plain(request.headers.get("user-agent") ?? "", 120),
  });
}

/** The last part of a path below /auth or /oauth may be a login code. */
function hideCodes(path: string): string {
  return path.replace(/^(\/(?:auth|oauth)\/[a-z-]+)\/.*$/, "$1/…");
}

function plain(text: string, maxLength: number): string {
  return replaceUnprintable(text.slice(0, maxLength), "?");
}
