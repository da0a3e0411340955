// What the holder of a lease may write: renew, report, apply changes, settle. Every write checks the lease in
// the same transaction; a void lease writes nothing.

import { FormationError, LIMITS, type Operation, type Progress } from "@formation-mcp/contract";
import { type Compilable, sql } from "kysely";
import type { Changes, Lease, Outcome } from "../port.ts";
import { toOperation } from "../sql/rows.ts";
import type { OperationRow } from "../sql/schema.ts";
import { first, type Transaction, type TransactionScript } from "../sql/script.ts";
import { CANCELLED } from "./cancel.ts";
import { applyChanges, operationRow } from "./records.ts";
import { endOperation, requeue } from "./transitions.ts";

/**
 * Prolongs the lease, but never beyond one lease after the deadline, so that every operation ends. Past the
 * deadline it also requests the cancel.
 * @throws FormationError `conflict` if the lease is void.
 */
export function* renew(tx: Transaction, lease: Lease, leaseMs: number): TransactionScript<Operation> {
  const row = yield* first(renewStatement(tx, lease, leaseMs));
  return toOperation(row ?? (yield* leasedRow(tx, lease)));
}

/** Renews in one statement. If the lease is void it writes and returns nothing. */
export function renewStatement(tx: Transaction, lease: Lease, leaseMs: number): Compilable<OperationRow> {
  return tx.cached("renew", { ...lease, now: tx.now, until: tx.now + leaseMs, leaseMs }, (db, p) =>
    db
      .updateTable("operations")
      .set((eb) => ({
        lease_until: eb
          .case()
          .when("deadline_at", "<", p.now)
          .then(eb("deadline_at", "+", p.leaseMs))
          .else(p.until)
          .end(),
        cancel_requested_at: eb
          .case()
          .when(eb.and([eb("deadline_at", "<=", p.now), eb("cancel_requested_at", "is", null)]))
          .then(eb.val<number | null>(p.now))
          .else(eb.ref("cancel_requested_at"))
          .end(),
        updated_at: p.now,
        version: eb("version", "+", 1),
      }))
      .where("id", "=", p.operation_id)
      .where("state", "=", sql.lit("running" as const))
      .where("attempt", "=", p.attempt)
      .where("claimed_by", "=", p.node_id)
      .where("lease_until", ">", p.now)
      .returningAll(),
  );
}

export function* report(
  tx: Transaction,
  lease: Lease,
  progress: Omit<Progress, "at">,
): TransactionScript<void> {
  if (!(yield* first(reportStatement(tx, lease, progress)))) yield* leasedRow(tx, lease);
}

/** Reports in one statement. If the lease is void it writes and returns nothing. */
export function reportStatement(
  tx: Transaction,
  lease: Lease,
  progress: Omit<Progress, "at">,
): Compilable<object> {
  const text = JSON.stringify({ ...progress, at: tx.now } satisfies Progress);
  return tx.cached("report", { ...lease, now: tx.now, text }, (db, p) =>
    db
      .updateTable("operations")
      .set((eb) => ({ progress: p.text, updated_at: p.now, version: eb("version", "+", 1) }))
      .where("id", "=", p.operation_id)
      .where("state", "=", sql.lit("running" as const))
      .where("attempt", "=", p.attempt)
      .where("claimed_by", "=", p.node_id)
      .where("lease_until", ">", p.now)
      .returning("id"),
  );
}

export function* apply(tx: Transaction, lease: Lease, changes: Changes): TransactionScript<void> {
  const row = yield* leasedRow(tx, lease);
  yield* applyChanges(tx, row.owner, changes);
}

/**
 * Ends the attempt. An operation that is given back ends here if it was cancelled, is past its deadline or
 * had its last attempt, because the sweep would only end it later.
 */
export function* settle(
  tx: Transaction,
  lease: Lease,
  outcome: Outcome,
  changes: Changes,
): TransactionScript<Operation> {
  const row = yield* leasedRow(tx, lease);
  yield* applyChanges(tx, row.owner, changes);
  if (outcome.state !== "queued") return toOperation(yield* endOperation(tx, row, outcome));
  const { error } = outcome;
  if (row.deadline_at <= tx.now || (row.attempt >= LIMITS.attempts && row.cancel_requested_at === null)) {
    return toOperation(yield* endOperation(tx, row, { state: "failed", error }));
  }
  if (row.cancel_requested_at !== null) {
    const cancelled = { ...CANCELLED, message: "The operation was cancelled between two attempts." };
    return toOperation(yield* endOperation(tx, row, { state: "cancelled", error: cancelled }));
  }
  return toOperation(yield* requeue(tx, row, Math.max(outcome.run_at, tx.now), error));
}

/**
 * The operation, if this lease completed it. Only the holder of a lease completes an operation, so no other
 * one did.
 */
export function* findSettled(
  tx: Transaction,
  lease: Lease,
  { state }: Outcome,
): TransactionScript<Operation | undefined> {
  const row = yield* operationRow(tx, null, lease.operation_id);
  return state === "completed" && row.state === state && row.attempt === lease.attempt
    ? toOperation(row)
    : undefined;
}

/** The operation of a lease. @throws FormationError `conflict` if the lease is void. */
function* leasedRow(tx: Transaction, lease: Lease): TransactionScript<OperationRow> {
  const row = yield* operationRow(tx, null, lease.operation_id);
  if (
    row.state !== "running" ||
    row.attempt !== lease.attempt ||
    row.claimed_by !== lease.node_id ||
    (row.lease_until ?? 0) <= tx.now
  ) {
    throw new FormationError(
      "conflict",
      `Attempt ${lease.attempt} of ${row.id} is over: it is ${row.state}, attempt ${row.attempt}.`,
      { remedy: "Stop what this attempt started and claim again." },
    );
  }
  return row;
}
