// The outcome of an attempt that did not succeed: given back to the queue, failed or cancelled, and with
// which error.

import { type ErrorRecord, FormationError, LIMITS, type Operation } from "@formation-mcp/contract";
import type { Outcome } from "@formation-mcp/operations";
import type { WorkerSettings } from "../settings.ts";

/** Why an attempt was told to end. `lost`: its lease is void, and another attempt may run. */
export type EndReason = "cancel" | "deadline" | "shutdown" | "lost";

/** `queued` gives the operation back for another attempt; the others end it. */
export type UnsuccessfulOutcome = Exclude<Outcome, { state: "completed" }>;

export interface FailedAttempt {
  /** Why the attempt was told to end; null if it ended by itself. */
  reason: EndReason | null;
  /** The operation as last read. */
  operation: Operation;
  /** The step that ran. */
  step: string;
  settings: Pick<WorkerSettings, "retryBaseMs">;
  /** The time now, by the clock of records. */
  now: number;
}

/** @param thrown what the work threw. */
export function outcomeOf(thrown: unknown, attempt: FailedAttempt): UnsuccessfulOutcome {
  const { reason, operation, step, settings, now } = attempt;
  const error = FormationError.from(thrown, "The worker failed inside.");
  if (reason === "cancel") return { state: "cancelled", error: cancelled(step) };
  if (reason === "deadline") return { state: "failed", error: deadlinePassed(step, error) };
  if (reason === "shutdown") return workerLeft(attempt, error);
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

function deadlinePassed(step: string, error: FormationError): ErrorRecord {
  return {
    code: "limit",
    message: `The operation's deadline passed during the step "${step}".`,
    remedy: "Try again. If it waited long before it began, free capacity on the node first.",
    ...(error.details.log_tail ? { log_tail: error.details.log_tail } : {}),
    step,
  };
}

/**
 * The outcome when the worker leaves. The store hands out no operation that has had its last attempt or is
 * past its deadline, so such an operation ends here.
 */
function workerLeft({ operation, step, now }: FailedAttempt, error: FormationError): UnsuccessfulOutcome {
  // Checked before the cancel request: after the deadline the store requests a cancel by itself.
  if (now >= operation.deadline_at) return { state: "failed", error: deadlinePassed(step, error) };
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
