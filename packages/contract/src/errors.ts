// The one error class of the system, and the closed list of what can go wrong.

/** What can go wrong, closed: `switch (error.code)` is complete. */
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

/** What an error may carry beside its message; all of it may be shown to the caller. */
export interface ErrorDetails {
  /** What the caller can do about it: one or two sentences. */
  remedy?: string;
  /** The input field that is wrong, as a path: `formfile.run[2]`. */
  field?: string;
  /** The operation that failed, where the error is its end: the same call under the same key is told the same. */
  operation_id?: string;
  /** The step of an operation that failed: `pull`, `run 2/3`, `boot`, … */
  step?: string;
  /** The exit code of what failed. */
  exit_code?: number;
  /** The last lines of the log of what failed: untrusted text, at most {@link LIMITS.errorLogLines} lines. */
  log_tail?: string[];
}

/** An error as a record or a tool result carries it. */
export interface ErrorRecord extends ErrorDetails {
  code: ErrorCode;
  message: string;
}

/** The system's error. The message says what happened, `remedy` what to do next; neither holds a stack or a secret. */
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

  /** Whether trying again may help; a user's mistake is never retried. */
  get retryable(): boolean {
    return this.code === "unavailable" || this.code === "internal";
  }

  toRecord(): ErrorRecord {
    return { code: this.code, message: this.message, ...this.details };
  }

  /** Wraps anything thrown: ours is returned as it is, an abort becomes `cancelled`, the rest `internal` with the cause kept. */
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
