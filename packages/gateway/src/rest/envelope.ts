// How answers and errors leave: the ancestor's envelope {status, data, message}, with the headers that generic clients
// act on.

import { FormationError } from "@formation-mcp/contract";
import type { GatewayDeps } from "../http/deps.ts";
import { statusOf } from "../http/error-response.ts";
import { BASIC_SCOPES, challengeHeader } from "../http/www-authenticate.ts";

export const UNAVAILABLE_SECONDS = 5;

const HEADERS = {
  "content-type": "application/json; charset=utf-8",
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
};

/** A JSON document as it is. */
export function json(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers: { ...HEADERS, ...headers } });
}

/** The only success there is for the ancestor's clients: 200. */
export function success(data: unknown, message: string | null = null): Response {
  return json({ status: "success", data, message });
}

/**
 * An error in the envelope.
 * @param how `scopes`: what a token must have for the same to go well, where it was refused for want of one.
 */
export function failure(
  deps: Pick<GatewayDeps, "publicUrl" | "clock">,
  thrown: unknown,
  how: { scopes?: readonly string[] | undefined; status?: number; headers?: Record<string, string> } = {},
): Response {
  const error = FormationError.from(thrown);
  const { code, message } = error;
  const tooMuch = code === "limit" && error.details.field === "context_files";
  const status = how.status ?? (tooMuch ? 413 : statusOf(error));
  const headers: Record<string, string> = { ...how.headers };
  if (status === 401) headers["www-authenticate"] = challengeHeader(deps.publicUrl, { scopes: BASIC_SCOPES });
  if (status === 403 && how.scopes !== undefined) {
    const said = { error: "insufficient_scope", scopes: how.scopes } as const;
    headers["www-authenticate"] = challengeHeader(deps.publicUrl, said);
  }
  // Whatever counts per minute begins again with the next one.
  if (status === 429) headers["retry-after"] = String(60 - Math.floor((deps.clock.now() % 60_000) / 1000));
  // What an operation ended with stays what it is, however often it is asked for.
  if (status === 503 && error.details.operation_id === undefined)
    headers["retry-after"] = String(UNAVAILABLE_SECONDS);
  // `code` beside `error`: the ancestor's ErrorResponse has it there.
  return json({ status: "error", data: null, message, code, error: error.toRecord() }, status, headers);
}
