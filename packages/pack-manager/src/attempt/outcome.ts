// How an attempt ends when it does not succeed: given back, failed or cancelled, and in whose words.

import { type ErrorRecord, FormationError, LIMITS, type Operation } from "@formation-mcp/contract";
import type { Outcome } from "@formation-mcp/operations";
import type { WorkerSettings } from "../settings.ts";

/** Why an attempt was told to end. `lost`: its lease is void; somebody else may be at it. */
export type EndReason = "cancel" | "deadline" | "shutdown" | "lost";

/** An end that is no success. */
export type UnsuccessfulOutcome = Exclude<Outcome, { state: "completed" }>;

export function outcomeOf(
  thrown: unknown,
  reason: EndReason | null,
  operation: Operation,
  step: string,
  settings: Pick<WorkerSettings, "retryBaseMs">,
  now: number,
): UnsuccessfulOutcome {
  const error = FormationError.from(thrown, "The worker failed inside.");
  if (reason === "cancel") return { state: "cancelled", error: cancelled(step) };
  if (reason === "deadline") return { state: "failed", error: tooLate(step, error) };
  if (reason === "shutdown") return leaving(operation, step, error, now);
  const record = error.code === "cancelled" ? interrupted(error, step) : { step, ...error.toRecord() };
  if (record.code !== "unavailable" && record.code !== "internal") return { state: "failed", error: record };
  if (operation.cancel_requested_at !== null) return { state: "cancelled", error: cancelled(step) };
  if (operation.attempt >= LIMITS.attempts) return { state: "failed", error: exhausted(record, operation) };
  return {
    state: "queued",
    run_at: now + settings.retryBaseMs * 4 ** (operation.attempt - 1),
    error: record,
  };
}

function cancelled(step: string): ErrorRecord {
  return {
    code: "cancelled",
    message: `Cancelled on request during the step "${step}"; what it had made is removed.`,
    step,
  };
}

function tooLate(step: string, error: FormationError): ErrorRecord {
  return {
    code: "limit",
    message: `The operation's deadline passed during the step "${step}".`,
    remedy: "Try again. If it waited long before it began, free capacity on the node first.",
    ...(error.details.log_tail ? { log_tail: error.details.log_tail } : {}),
    step,
  };
}

/** The store gives nobody what had its last attempt, or is past its deadline: that it goes on is said only where it may. */
function leaving(
  operation: Operation,
  step: string,
  error: FormationError,
  now: number,
): UnsuccessfulOutcome {
  // First, for past it the store asks for a cancel by itself.
  if (now >= operation.deadline_at) return { state: "failed", error: tooLate(step, error) };
  if (operation.cancel_requested_at !== null) return { state: "cancelled", error: cancelled(step) };
  if (operation.attempt >= LIMITS.attempts) {
    const message = `The worker left during the step "${step}".`;
    return {
      state: "failed",
      error: exhausted({ code: "unavailable", message, remedy: "Try again.", step }, operation),
    };
  }
  const message = "The worker left; the operation goes on when one is back.";
  return { state: "queued", run_at: now, error: { code: "unavailable", message, step } };
}

function interrupted(error: FormationError, step: string): ErrorRecord {
  return { code: "internal", message: `The step "${step}" was interrupted: ${error.message}`, step };
}

function exhausted(record: ErrorRecord, operation: Operation): ErrorRecord {
  return {
    ...record,
    message: `${record.message} (Tried ${operation.attempt} times.)`,
    remedy: record.remedy ?? "Try again later; look at the worker's log and at `formation-mcp doctor`.",
  };
}
