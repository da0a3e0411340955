// The request context: what the gateway knows about one request while it is served.

import { FormationError, type Logger } from "@formation-mcp/contract";
import { errorResponse } from "./error-response.ts";
import type { PolicyVerdict } from "./request-policy.ts";

/** The part of a request that the guards read. */
export type RequestHead = Pick<Request, "method" | "url" | "headers">;

export interface RequestContext {
  verdict: PolicyVerdict;
  traceId: string;
  /** By `performance.now()`. */
  startedAt: number;
  /** Method and route pattern, once the route is known. */
  action: string;
  /** The caller's account, once the caller is known. */
  owner: string | null;
}

/** The path of a request, without its query. */
export function pathOf(request: RequestHead): string {
  const from = request.url.indexOf("/", request.url.indexOf("//") + 2);
  const to = request.url.search(/[?#]/);
  return from < 0 ? "/" : request.url.slice(from, to < 0 ? undefined : to);
}

/**
 * The response for an error that a handler or a guard threw. An internal error is logged with the trace id
 * that the caller also gets; the response says nothing about its cause.
 */
export function failureResponse(logger: Logger, context: RequestContext, thrown: unknown): Response {
  const error = FormationError.from(thrown);
  if (error.code === "internal") {
    const cause =
      error.cause instanceof Error ? (error.cause.stack ?? error.cause.message) : String(error.cause);
    logger.log("error", "A request failed inside the server.", { trace_id: context.traceId, cause });
  }
  return errorResponse(error);
}
