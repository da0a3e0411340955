// REST responses: the ancestor's envelope {status, data, message}, with the headers that generic clients act
// on.

import { FormationError } from "@formation-mcp/contract";
import type { GatewayDeps } from "../http/deps.ts";
import { statusOf } from "../http/error-response.ts";
import { BASIC_SCOPES, wwwAuthenticate } from "../http/www-authenticate.ts";

/** The Retry-After of 503. */
export const RETRY_AFTER_SECONDS = 5;

const HEADERS = {
  "content-type": "application/json; charset=utf-8",
  "cache-control": "no-store",
  "x-content-type-options": "nosniff",
};

/** A JSON document without the envelope. */
export function jsonResponse(value: unknown, status = 200, headers: Record<string, string> = {}): Response {
  return new Response(JSON.stringify(value), { status, headers: { ...HEADERS, ...headers } });
}

/** A success in the envelope. Always 200: the ancestor's clients accept no other status. */
export function successEnvelope(data: unknown, message: string | null = null): Response {
  return jsonResponse({ status: "success", data, message });
}

/**
 * An error in the envelope.
 * @param options `scopes`: the scopes that a token needs, if the request was refused because one is missing.
 * `status`: instead of the error's own.
 */
export function errorEnvelope(
  deps: Pick<GatewayDeps, "publicUrl" | "clock">,
  thrown: unknown,
  options: { scopes?: readonly string[] | undefined; status?: number; headers?: Record<string, string> } = {},
): Response {
  const error = FormationError.from(thrown);
  const { code, message } = error;
  const tooMuch = code === "limit" && error.details.field === "context_files";
  const status = options.status ?? (tooMuch ? 413 : statusOf(error));
  const headers: Record<string, string> = { ...options.headers };
  if (status === 401) headers["www-authenticate"] = wwwAuthenticate(deps.publicUrl, { scopes: BASIC_SCOPES });
  if (status === 403 && options.scopes !== undefined) {
    const challenge = { error: "insufficient_scope", scopes: options.scopes } as const;
    headers["www-authenticate"] = wwwAuthenticate(deps.publicUrl, challenge);
  }
  // Limits are per minute: a new window begins with the next one.
  if (status === 429) headers["retry-after"] = String(60 - Math.floor((deps.clock.now() % 60_000) / 1000));
  // The outcome of an operation does not change: to retry the request is useless.
  if (status === 503 && error.details.operation_id === undefined)
    headers["retry-after"] = String(RETRY_AFTER_SECONDS);
  // `code` beside `error` is where the ancestor's ErrorResponse has it.
  return jsonResponse(
    { status: "error", data: null, message, code, error: error.toRecord() },
    status,
    headers,
  );
}
