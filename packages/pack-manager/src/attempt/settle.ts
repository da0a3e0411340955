// Writes how an attempt ended, as long as its lease lasts.

import { setTimeout as delay } from "node:timers/promises";
import { FormationError, type Operation } from "@formation-mcp/contract";
import type { Changes, Lease, Outcome } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import type { LeaseWatch } from "./lease-watch.ts";

export interface Settlement {
  outcome: Outcome;
  /** Written in the same transaction as the outcome. */
  changes: Changes;
}

const NO_CHANGES: Changes = {};
const MAX_RETRY_PAUSE_MS = 500;

/**
 * Writes an attempt's outcome, and tries again while the store does not answer.
 * @returns false if the lease is void.
 */
export async function settle(
  deps: Pick<WorkerDeps, "store" | "logger" | "settings">,
  lease: Lease,
  watch: LeaseWatch,
  settlement: Settlement,
): Promise<boolean> {
  const { store, logger, settings } = deps;
  let { outcome, changes } = settlement;
  for (watch.sureMs(); !watch.lost.aborted; watch.sureMs()) {
    try {
      await store.settle(lease, outcome, changes);
      return true;
    } catch (thrown) {
      const error = FormationError.from(thrown);
      logger.log("warn", `The end of an operation was not written: ${error.message}`, {
        operation: lease.operation_id,
        state: outcome.state,
      });
      const isRefused = error.code === "conflict" || error.code === "not_found";
      const read = isRefused ? await store.operation(null, lease.operation_id).catch(() => null) : null;
      if (!read) {
        const pauseMs = Math.min(MAX_RETRY_PAUSE_MS, settings.leaseMs / 10);
        await delay(pauseMs, undefined, { signal: watch.lost }).catch(() => {});
        continue;
      }
      // An earlier try, whose answer was lost, has written the outcome.
      if (read.attempt === lease.attempt && read.state === outcome.state) return true;
      if (!isOurs(read, lease)) return false;
      // The lease is valid, so the store refuses a change, because the record has changed meanwhile. The
      // outcome is written without the changes; reconciling moves the records to the real state.
      if (changes === NO_CHANGES) return false;
      changes = NO_CHANGES;
      if (outcome.state === "completed") {
        outcome = { state: "failed", error: { ...error.toRecord(), code: "internal" } };
      }
    }
  }
  return false;
}

/** Whether an error of an attempt came from a void lease and not from the work itself. */
export async function isLeaseVoid(
  { store }: Pick<WorkerDeps, "store">,
  lease: Lease,
  thrown: unknown,
): Promise<boolean> {
  if (!(thrown instanceof FormationError) || thrown.code !== "conflict") return false;
  const read = await store.operation(null, lease.operation_id).catch(() => null);
  return read === null || !isOurs(read, lease);
}

/** Whether the record still names this attempt. Only the store's clock says when the lease ends. */
function isOurs(read: Operation, lease: Lease): boolean {
  return read.state === "running" && read.attempt === lease.attempt && read.claimed_by === lease.node_id;
}
