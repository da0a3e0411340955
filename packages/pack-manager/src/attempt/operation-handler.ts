// What an operation handler is: the work of one kind of operation, and what it sees of its attempt.

import type { Operation } from "@formation-mcp/contract";
import type { Changes } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import type { LeashRenewal } from "./leash-renewal.ts";
import type { UnsuccessfulOutcome } from "./outcome.ts";

/** What the work of an operation sees of its attempt. */
export interface Attempt {
  readonly operation: Operation;
  readonly number: number;
  /** Aborts when the work is to end, for whatever reason. */
  readonly signal: AbortSignal;
  /** Aborts only when the lease is void. For what must be put back although the work is to end. */
  readonly lost: AbortSignal;
  /** Aborts when the worker leaves. */
  readonly leaving: AbortSignal;
  /** Milliseconds until the deadline. */
  remainingMs(): number;
  /** Reports progress; `fraction` is from 0 to 1 and null if unknown. */
  step(step: string, message: string, fraction?: number | null): void;
  /**
   * For machines that another attempt may start again elsewhere. They are released from the leash once the
   * completion is written.
   */
  readonly leash: Pick<LeashRenewal, "start">;
  /**
   * Changes records now, in the course of the attempt.
   * @throws FormationError `conflict` if the lease is void.
   */
  apply(changes: Changes): Promise<void>;
}

/**
 * The work of one attempt. `run`, `undo` and `done` go by the records and by what really exists, not by what
 * an earlier call remembered: another process may have made that call.
 */
interface Work {
  /** Does the work; returns the changes that are written together with its completion. */
  run(): Promise<Changes>;
  /**
   * Puts things back after a failure or a cancel, or before another attempt; returns the changes that are
   * written with the outcome.
   */
  undo(outcome: UnsuccessfulOutcome): Promise<Changes>;
  /** Removes what this attempt made. Does not write to the store: the lease is void. */
  abandon(): Promise<void>;
  /** Cleans up once the completion is written. If a crash prevents it, reconciling does it later. */
  done?(): Promise<void>;
}

export type OperationHandler = (deps: WorkerDeps, attempt: Attempt) => Work;
