// The only error class of the system, and the closed list of its codes.

/** All error codes. The list is closed, so that a `switch (error.code)` can be complete. */
export const ERROR_CODES = [
  "invalid",
  "unauthenticated",
  "forbidden",
  "not_found",
  "conflict",
  "limit",
  "unavailable",
  "cancelled",
  "internal",
] as const;

export type ErrorCode = (typeof ERROR_CODES)[number];

/** What an error may carry besides its message. All of it may be shown to the caller. */
export interface ErrorDetails {
  /** What the caller can do about it: one or two sentences. */
  remedy?: string;
  /** The input field that is wrong, as a path: `formfile.run[2]`. */
  field?: string;
  /**
   * The operation that ended with this error. The same call with the same idempotency key gets the same
   * error.
   */
  operation_id?: string;
  /** The step of an operation that failed: `pull`, `run 2/3`, `boot`, … */
  step?: string;
  /** The exit code of the process that failed. */
  exit_code?: number;
  /** The last log lines of what failed, at most `LIMITS.errorLogLines`. Untrusted text. */
  log_tail?: string[];
}

/** An error as a record or a tool result carries it. */
export interface ErrorRecord extends ErrorDetails {
  code: ErrorCode;
  message: string;
}

/**
 * The system's error. The message says what happened, `remedy` what to do next. Neither holds a stack or a
 * secret.
 */
export class FormationError extends Error {
  override readonly name = "FormationError";
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails & { cause?: unknown } = {}) {
    const { cause, ...rest } = details;
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = rest;
  }

  /** Whether a retry may help. A user's mistake is never retried. */
  get retryable(): boolean {
    return this.code === "unavailable" || this.code === "internal";
  }

  toRecord(): ErrorRecord {
    return { code: this.code, message: this.message, ...this.details };
  }

  /**
   * Converts anything thrown. A FormationError is returned as it is, an abort becomes `cancelled`, everything
   * else becomes `internal` with the message `what` and the original as its cause.
   */
  static from(thrown: unknown, what = "Something went wrong inside the server."): FormationError {
    if (thrown instanceof FormationError) return thrown;
    if (thrown instanceof Error && (thrown.name === "AbortError" || thrown.name === "TimeoutError")) {
      return new FormationError("cancelled", "The call was cancelled.", { cause: thrown });
    }
    return new FormationError("internal", what, {
      cause: thrown,
      remedy: "Try again; if it happens again, look at the worker's log.",
    });
  }
}
