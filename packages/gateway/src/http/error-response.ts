// How an error of ours looks over HTTP: which status it has, and the envelope that every answer of the REST door wears.

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

/** The field of an error about the size of a request's body, which is 413 and not 429. */
export const BODY_FIELD = "body";
/** The field of an error about the kind of a request's body, which is 415 and not 400. */
export const CONTENT_TYPE_FIELD = "content-type";

/** The HTTP status of an error (RFC 9110 §15). */
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
 * The answer that is an error. What is not ours says nothing of itself.
 * @param headers what the answer says beside the envelope, e.g. `www-authenticate`.
 */
export function fail(thrown: unknown, headers: Record<string, string> = {}): Response {
  const error = FormationError.from(thrown);
  const retry = error.code === "unavailable" ? { "retry-after": "2" } : {};
  return Response.json(errorBody(error), {
    status: statusOf(error),
    headers: { "cache-control": "no-store", ...retry, ...headers },
  });
}
