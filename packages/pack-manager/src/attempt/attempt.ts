// One attempt at one operation, from its claim to its outcome. It ends with a truthful record; or, if its
// lease is void, it leaves the record alone and removes what it made. This folder knows the life of an
// attempt: lease, leash, cancel, deadline, retry and outcome.

import { FormationError, type Id, type Operation, quietly } from "@formation-mcp/contract";
import type { Changes, Lease, Outcome } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import { createProgressWriter } from "../report/progress-writer.ts";
import { type LeaseWatch, watchLease } from "./lease-watch.ts";
import { createLeashRenewal } from "./leash-renewal.ts";
import type { OperationHandler } from "./operation-handler.ts";
import { type EndReason, outcomeOf, type UnsuccessfulOutcome } from "./outcome.ts";
import { isLeaseVoid, settle } from "./settle.ts";

export interface RunningAttempt {
  readonly operation: Operation;
  /** Resolves when the attempt has ended; never rejects. */
  readonly ended: Promise<void>;
  end(reason: EndReason): void;
  /** Reads the operation soon: it may have been cancelled. */
  refresh(): void;
}

export interface AttemptOptions {
  operation: Operation;
  handler: OperationHandler;
  /** When the claim was sent, by the monotonic clock. */
  claimedAt: number;
  /**
   * Given if an earlier process of this node left the operation running. Nothing is run then: the operation
   * is undone, and given back, cancelled or failed with this error.
   */
  orphan?: FormationError | undefined;
}

export function startAttempt(deps: WorkerDeps, options: AttemptOptions): RunningAttempt {
  const { operation, claimedAt } = options;
  const lease: Lease = { operation_id: operation.id, attempt: operation.attempt, node_id: deps.node.id };
  const watch = watchLease(deps, operation, lease, claimedAt);
  const ended = deps.locks
    .run(lockKey(operation), () => conduct(deps, { ...options, lease, watch }))
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
  return { operation, ended, end: watch.end, refresh: watch.refresh };
}

/** The key of the lock that an operation's attempt holds. */
function lockKey({ input }: Operation): string {
  return input.kind === "build" ? input.build_id : input.instance_id;
}

interface WatchedAttempt extends AttemptOptions {
  lease: Lease;
  watch: LeaseWatch;
}

async function conduct(deps: WorkerDeps, attempt: WatchedAttempt): Promise<void> {
  const { operation, handler, orphan, lease, watch } = attempt;
  const { store, announcer, clock, logger } = deps;
  const progress = createProgressWriter(async (report) => {
    await store.report(lease, report);
    announcer.changed(operation.owner, operation.id);
  });
  const leash = createLeashRenewal(deps, watch);
  const work = handler(deps, {
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
  const abandon = async () => {
    watch.end("lost");
    await progress.close();
    await work.abandon();
  };
  let outcome: Outcome = { state: "completed" };
  let changes: Changes;
  try {
    if (orphan) throw orphan;
    watch.sureMs(); // the answer to the claim may have come late
    watch.signal.throwIfAborted();
    changes = await work.run();
  } catch (thrown) {
    watch.sureMs(); // the work may have failed because the lease was lost
    if (watch.lost.aborted || (await isLeaseVoid(deps, lease, thrown))) return abandon();
    const { reason, operation: latest } = watch;
    const { settings } = deps;
    const failure = outcomeOf(thrown, {
      reason,
      operation: latest,
      step: progress.current,
      settings,
      now: clock.now(),
    });
    logOutcome(logger, operation, failure, thrown);
    outcome = failure;
    try {
      changes = await work.undo(failure);
    } catch (undoFailure) {
      // What is left is unknown now. It is removed while the lease lasts, and the next attempt begins later.
      await abandon();
      throw undoFailure;
    }
  }
  await progress.close();
  if (!(await settle(deps, lease, watch, { outcome, changes }))) return abandon();
  if (outcome.state === "completed") await leash.release();
  announcer.changed(operation.owner, operation.id, ...changedIds(changes));
  if (outcome.state === "completed" && work.done)
    await quietly(logger, "clean up", () => work.done?.() as Promise<void>);
}

function changedIds(changes: Changes): Id[] {
  return [...(changes.builds ?? []), ...(changes.deployments ?? []), ...(changes.instances ?? [])].map(
    (change) => change.id,
  );
}

function logOutcome(
  logger: WorkerDeps["logger"],
  operation: Operation,
  outcome: UnsuccessfulOutcome,
  thrown: unknown,
): void {
  const { state, error } = outcome;
  const cause = thrown instanceof FormationError ? thrown.cause : thrown;
  logger.log(error.code === "internal" ? "error" : "info", error.message, {
    operation: operation.id,
    attempt: operation.attempt,
    state,
    code: error.code,
    ...(cause instanceof Error ? { cause: cause.stack } : {}),
  });
}
