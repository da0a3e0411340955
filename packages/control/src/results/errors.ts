// How the error of a record becomes the error of a call or a part of a result. This folder knows how records,
// errors, lists and logs are shown to callers, and how untrusted text is cleaned.

import { type ErrorRecord, FormationError, LIMITS, type Operation } from "@formation-mcp/contract";
import { cleanLine, cleanText, fence, jsonBytes } from "./untrusted-text.ts";

/**
 * The error of a call that waited for an operation which failed or was cancelled. `presentable` cleans its
 * texts later. Its `log_tail` is already fenced: the marks are its first and its last line.
 */
export function operationError(operation: Operation, random: (bytes: number) => Uint8Array): FormationError {
  const record: ErrorRecord = operation.error ?? {
    code: operation.state === "cancelled" ? "cancelled" : "internal",
    message: operation.state === "cancelled" ? "The operation was cancelled." : "The operation failed.",
  };
  const where = moreAbout(operation);
  const said =
    record.remedy ?? (record.code === "cancelled" ? "Call the tool again if it is still wanted." : "");
  const { code, message, log_tail, ...rest } = record;
  return new FormationError(code, message, {
    ...rest,
    operation_id: operation.id,
    remedy: `${said} ${where}`.trim(),
    ...(log_tail?.length
      ? { log_tail: fence(cleanLines(log_tail), authorOf(operation), random).split("\n") }
      : {}),
  });
}

/**
 * The longest texts of an error, in bytes. The message of an operation is shorter, because a log may come
 * with it.
 */
const MESSAGE_BYTES = 9_000;
const OPERATION_MESSAGE_BYTES = 2_000;
const REMEDY_BYTES = 2_000;
const FIELD_BYTES = 300;

/**
 * An error as control throws it, with its texts cleaned. They may quote untrusted text. They are cleaned only
 * here, whatever threw the error.
 */
export function presentable(error: FormationError): FormationError {
  const { code, message, details, cause } = error;
  const { remedy, field } = details;
  const maxBytes = details.operation_id === undefined ? MESSAGE_BYTES : OPERATION_MESSAGE_BYTES;
  return new FormationError(code, cleanText(message, maxBytes), {
    ...details,
    ...(remedy === undefined ? {} : { remedy: cleanText(remedy, REMEDY_BYTES) }),
    ...(field === undefined ? {} : { field: cleanText(field, FIELD_BYTES) }),
    cause,
  });
}

/** The error of a record as a part of a result. Its log lines go into the `log` of the result. */
export function errorView(error: ErrorRecord): { code: string; message: string; remedy?: string } {
  const { step, exit_code } = error;
  return {
    code: error.code,
    message: cleanText(error.message, 1000),
    ...(error.remedy ? { remedy: cleanText(error.remedy, 1000) } : {}),
    ...(step === undefined ? {} : { step: cleanText(step, 80) }),
    ...(exit_code === undefined ? {} : { exit_code }),
  };
}

/** The fenced log lines of an error as the field `log`, if it has any. */
export function errorLog(
  error: ErrorRecord | null,
  what: string,
  random: (bytes: number) => Uint8Array,
): { log?: string } {
  if (!error?.log_tail?.length) return {};
  return { log: fence(cleanLines(error.log_tail), what, random) };
}

/** The last lines, each cleaned, within 6,000 bytes of JSON in total. */
function cleanLines(lines: readonly string[]): string[] {
  const kept: string[] = [];
  let left = 6000;
  for (const line of lines.slice(-LIMITS.errorLogLines).reverse()) {
    const clean = cleanLine(line);
    left -= jsonBytes(clean);
    if (left < 0) break;
    kept.unshift(clean);
  }
  return kept;
}

function authorOf({ input }: Operation): string {
  return input.kind === "build" ? "the build" : "the VM or its build";
}

function moreAbout(operation: Operation): string {
  const { input, id } = operation;
  if (input.kind === "build") return `More: build_get with build_id ${input.build_id}.`;
  if (input.kind === "ship")
    return `More: vm_logs with instance ${input.instance_id}, or operation_get with id ${id}.`;
  return `More: vm_status with instance ${input.instance_id}.`;
}
