// A FormationError over HTTP: its status code, and the JSON envelope that the REST API uses for errors.

import { type ErrorCode, FormationError } from "@formation-mcp/contract";

const STATUS: Record<ErrorCode, number> = {
  invalid: 400,
  unauthenticated: 401,
  forbidden: 403,
  not_found: 404,
  conflict: 409,
  limit: 429,
  cancelled: 409,
  unavailable: 503,
  internal: 500,
};

/** The field of an error about the size of the request body: such a `limit` is 413, not 429. */
export const BODY_FIELD = "body";
/** The field of an error about the media type of the request body: such an `invalid` is 415, not 400. */
export const CONTENT_TYPE_FIELD = "content-type";

/** The HTTP status code of an error (RFC 9110 §15). */
export function statusOf({ code, details: { field } }: FormationError): number {
  if (code === "limit" && field === BODY_FIELD) return 413;
  if (code === "invalid" && field === CONTENT_TYPE_FIELD) return 415;
  return STATUS[code];
}

/** An error in the envelope `{status, data, message, code, error}`. */
export function errorBody(error: FormationError): Record<string, unknown> {
  const { code, message, remedy, field } = error.toRecord();
  return {
    status: "error",
    data: null,
    message,
    code,
    error: { code, message, ...(remedy ? { remedy } : {}), ...(field ? { field } : {}) },
  };
}

/**
 * The response of an error. Anything that is not a FormationError becomes `internal`, without its message.
 * @param headers beside the envelope, for example `www-authenticate`.
 */
export function errorResponse(thrown: unknown, headers: Record<string, string> = {}): Response {
  const error = FormationError.from(thrown);
  const retry = error.code === "unavailable" ? { "retry-after": "2" } : {};
  return Response.json(errorBody(error), {
    status: statusOf(error),
    headers: { "cache-control": "no-store", ...retry, ...headers },
  });
}
