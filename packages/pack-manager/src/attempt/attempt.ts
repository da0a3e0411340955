// One attempt at one operation, from its claim to its one settlement: whatever happens in between, it ends in the record
// truthfully, or, once its lease is void, leaves the record alone and takes away what it made.

import { setTimeout as delay } from "node:timers/promises";
import { FormationError, type Id, type Operation, quietly } from "@formation-mcp/contract";
import type { Changes, Lease, Outcome } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import { createProgressWriter } from "../report/progress-writer.ts";
import { type LeaseWatch, watchLease } from "./lease-watch.ts";
import { createLeashRenewal, type LeashRenewal } from "./leash-renewal.ts";
import { type EndReason, outcomeOf, type UnsuccessfulOutcome } from "./outcome.ts";

/** What the work of an operation sees of its attempt. */
export interface Attempt {
  readonly operation: Operation;
  readonly number: number;
  /** Aborts when the work is to end, for whatever reason. */
  readonly signal: AbortSignal;
  /** Aborts only when the lease is void; for what must be put back although the work is to end. */
  readonly lost: AbortSignal;
  /** Aborts when the worker leaves. */
  readonly leaving: AbortSignal;
  /** Milliseconds until the deadline. */
  remainingMs(): number;
  step(step: string, message: string, fraction?: number | null): void;
  /** What it starts that another attempt may start again elsewhere; released once the completion is written. */
  readonly leash: Pick<LeashRenewal, "start">;
  /** Changes records now, in the course of the attempt. */
  apply(changes: Changes): Promise<void>;
}

/** What an operation does. `run`, `undo` and `done` look at records and reality, not at what an earlier one remembered. */
interface Work {
  /** Does it; returns the changes that are written together with its completion. */
  run(): Promise<Changes>;
  /** Puts things back after a failure, a cancel, or before it is tried again; returns the changes that go with it. */
  undo(ending: UnsuccessfulOutcome): Promise<Changes>;
  /** Takes away what this attempt made, without a word to the store: its lease is void. */
  abandon(): Promise<void>;
  /** What is left to do once the completion is written; a crash before it is made good by reconciling. */
  done?(): Promise<void>;
}

export type OperationHandler = (deps: WorkerDeps, attempt: Attempt) => Work;

export interface RunningAttempt {
  readonly operation: Operation;
  /** Resolves when the attempt has ended; never rejects. */
  readonly ended: Promise<void>;
  end(reason: EndReason): void;
  look(): void;
}

/** The key of the lock that an operation's work holds. */
function lockKey(operation: Operation): string {
  return operation.input.kind === "build" ? operation.input.build_id : operation.input.instance_id;
}

/**
 * Starts an attempt; `claimedAt` is when its claim was asked for, by the monotonic clock. With `orphan` nothing is run: the
 * operation was left by an earlier process of this node, and that error says so; it is undone and given back, cancelled or
 * failed.
 */
export function startAttempt(
  deps: WorkerDeps,
  operation: Operation,
  kind: OperationHandler,
  claimedAt: number,
  orphan?: FormationError,
): RunningAttempt {
  const lease: Lease = { operation_id: operation.id, attempt: operation.attempt, node_id: deps.node.id };
  const watch = watchLease(deps, operation, lease, claimedAt);
  const ended = deps.locks
    .run(lockKey(operation), () => conduct(deps, operation, kind, lease, watch, orphan))
    .catch((thrown: unknown) => {
      const error = FormationError.from(thrown);
      deps.logger.log("error", `An attempt ended badly: ${error.message}`, {
        operation: operation.id,
        cause: error.cause instanceof Error ? error.cause.stack : undefined,
      });
    })
    .finally(() => {
      deps.imageHolds.release(operation);
      watch.stop();
    });
  return { operation, ended, end: watch.end, look: watch.look };
}

async function conduct(
  deps: WorkerDeps,
  operation: Operation,
  kind: OperationHandler,
  lease: Lease,
  watch: LeaseWatch,
  orphan: FormationError | undefined,
): Promise<void> {
  const { store, announcer, clock, logger } = deps;
  const progress = createProgressWriter(async (report) => {
    await store.report(lease, report);
    announcer.changed(operation.owner, operation.id);
  });
  const leash = createLeashRenewal(deps, watch);
  const work = kind(deps, {
    operation,
    leash,
    number: lease.attempt,
    signal: watch.signal,
    lost: watch.lost,
    leaving: watch.leaving,
    remainingMs: () => Math.max(0, operation.deadline_at - clock.now()),
    step: (step, message, fraction = null) => progress.step(step, message, fraction),
    async apply(changes) {
      watch.lost.throwIfAborted();
      await store.apply(lease, changes);
      announcer.changed(operation.owner, ...changedIds(changes));
    },
  });
  let outcome: Outcome = { state: "completed" };
  let changes: Changes;
  try {
    if (orphan) throw orphan;
    watch.sureMs(); // the answer to the claim may have come late
    watch.signal.throwIfAborted();
    changes = await work.run();
  } catch (thrown) {
    watch.sureMs(); // what failed may have ended because the lease did
    if (watch.lost.aborted || (await isVoid(deps, lease, thrown))) {
      watch.end("lost");
      await progress.close();
      return work.abandon();
    }
    const ending = outcomeOf(
      thrown,
      watch.reason,
      watch.operation,
      progress.current,
      deps.settings,
      clock.now(),
    );
    tell(logger, operation, ending, thrown);
    outcome = ending;
    try {
      changes = await work.undo(ending);
    } catch (failure) {
      // Nothing is known of what is left then: it goes before the lease does, and the operation is tried again after it.
      watch.end("lost");
      await progress.close();
      await work.abandon();
      throw failure;
    }
  }
  await progress.close();
  const settled = await settle(deps, lease, watch, outcome, changes);
  if (!settled) {
    watch.end("lost");
    return work.abandon();
  }
  if (outcome.state === "completed") await leash.release();
  announcer.changed(operation.owner, operation.id, ...changedIds(changes));
  if (outcome.state === "completed" && work.done)
    await quietly(deps.logger, "clean up", () => work.done?.() as Promise<void>);
}

/** Whether an error came from a void lease and not from the work itself. */
async function isVoid(deps: WorkerDeps, lease: Lease, thrown: unknown): Promise<boolean> {
  if (!(thrown instanceof FormationError) || thrown.code !== "conflict") return false;
  const read = await deps.store.operation(null, lease.operation_id).catch(() => null);
  return read === null || !isOurs(read, lease);
}

/** Whether the record still names this attempt; when its lease ends is said by the store's clock, which is not ours. */
function isOurs(read: Operation, lease: Lease): boolean {
  return read.state === "running" && read.attempt === lease.attempt && read.claimed_by === lease.node_id;
}

/** Writes the end, as long as the lease lasts. Returns false if it is void. */
async function settle(
  deps: WorkerDeps,
  lease: Lease,
  watch: LeaseWatch,
  outcome: Outcome,
  changes: Changes,
): Promise<boolean> {
  let ending = outcome;
  let records = changes;
  for (watch.sureMs(); !watch.lost.aborted; watch.sureMs()) {
    try {
      await deps.store.settle(lease, ending, records);
      return true;
    } catch (thrown) {
      const error = FormationError.from(thrown);
      deps.logger.log("warn", `The end of an operation was not written: ${error.message}`, {
        operation: lease.operation_id,
        state: ending.state,
      });
      const refused = error.code === "conflict" || error.code === "not_found";
      const read = refused ? await deps.store.operation(null, lease.operation_id).catch(() => null) : null;
      if (read) {
        // An earlier try whose answer was lost wrote it: it is the end that this attempt wants.
        if (read.attempt === lease.attempt && read.state === ending.state) return true;
        if (!isOurs(read, lease)) return false;
        // The lease is ours, so a change is not allowed from what the records have become: end it without the changes,
        // and reconciling moves them to what is real.
        if (records === NO_CHANGES) return false;
        records = NO_CHANGES;
        if (ending.state === "completed") {
          ending = { state: "failed", error: { ...error.toRecord(), code: "internal" } };
        }
        continue;
      }
      await delay(Math.min(500, deps.settings.leaseMs / 10), undefined, { signal: watch.lost }).catch(
        () => {},
      );
    }
  }
  return false;
}

const NO_CHANGES: Changes = {};

function changedIds(changes: Changes): Id[] {
  return [...(changes.builds ?? []), ...(changes.deployments ?? []), ...(changes.instances ?? [])].map(
    (change) => change.id,
  );
}

function tell(
  logger: WorkerDeps["logger"],
  operation: Operation,
  ending: UnsuccessfulOutcome,
  thrown: unknown,
): void {
  const cause = thrown instanceof FormationError ? thrown.cause : thrown;
  logger.log(ending.error.code === "internal" ? "error" : "info", ending.error.message, {
    operation: operation.id,
    attempt: operation.attempt,
    state: ending.state,
    code: ending.error.code,
    ...(cause instanceof Error ? { cause: cause.stack } : {}),
  });
}
