// Turns error responses and network errors into FormationErrors. Known fields are copied one by one, nothing
// else.

import { ERROR_CODES, type ErrorCode, type ErrorDetails, FormationError } from "@formation-mcp/contract";

const CODE_BY_STATUS: Record<number, ErrorCode> = {
  400: "invalid",
  401: "unauthenticated",
  403: "forbidden",
  404: "not_found",
  405: "invalid",
  409: "conflict",
  411: "invalid",
  413: "limit",
  415: "invalid",
  422: "invalid",
  429: "limit",
  431: "limit",
};

/**
 * The error of a response.
 * @param json the body, or null if it is no JSON.
 * @param where the server, for messages.
 */
export function errorOf(status: number, json: unknown, where: string): FormationError {
  const body = isObject(json) ? json : {};
  const error = isObject(body["error"]) ? body["error"] : {};
  const known = (ERROR_CODES as readonly unknown[]).includes(error["code"]);
  const code = known ? (error["code"] as ErrorCode) : codeOf(status);
  const message =
    text(error["message"]) ??
    text(body["message"]) ??
    text(body["error_description"]) ??
    `${where} answered with HTTP ${status}.`;
  const remedy = text(error["remedy"]) ?? usualRemedy(code, known, where);
  return new FormationError(code, message, { ...detailsOf(error), ...(remedy ? { remedy } : {}) });
}

/** Nothing answered, or something that is no Formation server. */
export function unreachable(where: string, why: string, cause?: unknown): FormationError {
  return new FormationError("unavailable", `Nothing answers at ${where}: ${why}.`, {
    cause,
    remedy: "Check the server's URL and that the server runs, then try again.",
  });
}

/** Why a fetch failed, in words. Runtimes put the reason into a chain of causes. */
export function reasonOf(error: unknown): string {
  for (let at = error, depth = 0; at instanceof Error && depth < 4; at = at.cause, depth++) {
    const code = (at as { code?: unknown }).code;
    if (typeof code === "string" && REASON_BY_CODE[code]) return REASON_BY_CODE[code];
    if (typeof code === "string" && /CERT|SIGNED|SSL|TLS/.test(code))
      return `its certificate is refused (${code})`;
    if (typeof code === "string" && at.cause === undefined) return code;
  }
  return "the connection failed";
}

const REASON_BY_CODE: Record<string, string> = {
  ECONNREFUSED: "the connection was refused",
  ECONNRESET: "the connection was closed",
  UND_ERR_SOCKET: "the connection was closed",
  ENOTFOUND: "there is no such host",
  EAI_AGAIN: "the host's name could not be looked up",
  ETIMEDOUT: "the connection timed out",
  UND_ERR_CONNECT_TIMEOUT: "the connection timed out",
  UND_ERR_HEADERS_TIMEOUT: "it did not answer in time",
  EHOSTUNREACH: "there is no way to the host",
  ENETUNREACH: "there is no way to its network",
};

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function codeOf(status: number): ErrorCode {
  return CODE_BY_STATUS[status] ?? (status >= 502 && status <= 504 ? "unavailable" : "internal");
}

function usualRemedy(code: ErrorCode, known: boolean, where: string): string | undefined {
  if (known) return undefined;
  if (code === "unavailable") return "Try again later.";
  if (code === "not_found") return `Check that ${where} is a Formation server's URL.`;
  return undefined;
}

function detailsOf(error: Record<string, unknown>): ErrorDetails {
  const { field, step, exit_code, log_tail } = error;
  return {
    ...(text(field) ? { field: text(field) as string } : {}),
    ...(text(step) ? { step: text(step) as string } : {}),
    ...(typeof exit_code === "number" ? { exit_code } : {}),
    ...(Array.isArray(log_tail) ? { log_tail: log_tail.filter((line) => typeof line === "string") } : {}),
  };
}

function text(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value.slice(0, 10_000) : undefined;
}
