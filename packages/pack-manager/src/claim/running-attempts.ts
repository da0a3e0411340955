// The attempts that run on this node: starts them, ends them, and tells listeners when one has ended.

import type { FormationError, Id, Operation } from "@formation-mcp/contract";
import { type RunningAttempt, startAttempt } from "../attempt/attempt.ts";
import type { OperationHandler } from "../attempt/operation-handler.ts";
import type { EndReason } from "../attempt/outcome.ts";
import type { WorkerDeps } from "../deps.ts";
import { buildHandler } from "../operations/build.ts";
import { deleteHandler } from "../operations/delete.ts";
import { shipHandler } from "../operations/ship.ts";
import { controlHandler } from "../operations/vm-control.ts";

const HANDLERS: Record<Operation["input"]["kind"], OperationHandler> = {
  build: buildHandler,
  ship: shipHandler,
  control: controlHandler,
  delete: deleteHandler,
};

export interface RunningAttempts {
  /**
   * Starts the attempt at an operation that this node has claimed.
   * @param claimedAt when the claim was sent, by the monotonic clock.
   * @param orphan given if an earlier process of this node left the operation running: it is not run but
   * undone, for this reason.
   */
  start(operation: Operation, claimedAt: number, orphan?: FormationError): void;
  /** Calls back after each attempt; `ended` waits for the promise. */
  onEnded(listener: (operation: Operation) => Promise<void> | void): void;
  count(): number;
  operations(): Operation[];
  /** How many builds run, the builds within shipments left out. */
  builds(): number;
  /** Whether an attempt runs that may add an image which no record names yet. */
  mayAddImages(): boolean;
  /** Whether an attempt runs that creates machines for a deployment. */
  makesMachinesFor(deployment: Id<"dep">): boolean;
  /** Reads an operation again if an attempt at it runs: it may have been cancelled. */
  refresh(id: Id): void;
  /** Ends every attempt, and every later one as soon as it starts. */
  endAll(reason: EndReason): void;
  /** Resolves when no attempt runs and the listeners are done. */
  ended(): Promise<void>;
}

export function createRunningAttempts(deps: WorkerDeps): RunningAttempts {
  const attempts = new Map<string, RunningAttempt>();
  const listeners: ((operation: Operation) => Promise<void> | void)[] = [];
  const notifying = new Set<Promise<void>>();
  let endReason: EndReason | null = null;

  const operations = () => [...attempts.values()].map(({ operation }) => operation);
  const inputs = () => operations().map(({ input }) => input);
  const notify = async (key: string, operation: Operation) => {
    attempts.delete(key);
    await Promise.all(listeners.map(async (listener) => listener(operation)));
  };
  return {
    start(operation, claimedAt, orphan) {
      const key = `${operation.id}.${operation.attempt}`;
      const handler = HANDLERS[operation.input.kind];
      const attempt = startAttempt(deps, { operation, handler, claimedAt, orphan });
      attempts.set(key, attempt);
      if (endReason !== null) attempt.end(endReason);
      deps.announcer.changed(operation.owner, operation.id);
      const notified: Promise<void> = attempt.ended
        .then(() => notify(key, operation))
        // A listener that fails must not end the worker; the claim loop polls, and reconciling repeats.
        .catch(() => {})
        .finally(() => notifying.delete(notified));
      notifying.add(notified);
    },
    onEnded: (listener) => void listeners.push(listener),
    count: () => attempts.size,
    operations,
    builds: () => inputs().filter(({ kind }) => kind === "build").length,
    mayAddImages: () => inputs().some(({ kind }) => kind === "build" || kind === "ship"),
    makesMachinesFor: (deployment) =>
      inputs().some((input) => input.kind === "ship" && input.deployment_id === deployment),
    refresh(id) {
      for (const attempt of attempts.values()) if (attempt.operation.id === id) attempt.refresh();
    },
    endAll(reason) {
      endReason = reason;
      for (const attempt of attempts.values()) attempt.end(reason);
    },
    async ended() {
      while (attempts.size > 0) await Promise.all([...attempts.values()].map(({ ended }) => ended));
      await Promise.all(notifying);
    },
  };
}
