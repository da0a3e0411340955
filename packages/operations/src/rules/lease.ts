// What the holder of a lease may write. Every write proves that the lease still holds, in the same transaction: a void
// one changes nothing.

import { FormationError, LIMITS, type Operation, type Progress } from "@formation-mcp/contract";
import { type Compilable, sql } from "kysely";
import type { Changes, Lease, Outcome } from "../port.ts";
import { toOperation } from "../sql/rows.ts";
import type { OperationRow } from "../sql/schema.ts";
import { first, type Query, type Script } from "../sql/script.ts";
import { CANCELLED } from "./cancel.ts";
import { applyChanges, operationRow } from "./records.ts";
import { end, giveBack } from "./transitions.ts";

/**
 * A lease is never prolonged beyond the deadline and one lease more, so that every operation ends; past the deadline
 * its holder is asked to cancel.
 */
export function* renew(q: Query, lease: Lease, leaseMs: number): Script<Operation> {
  const row = yield* first(renewing(q, lease, leaseMs));
  return toOperation(row ?? (yield* held(q, lease)));
}

/** Writes nothing, and returns nothing, if the lease is void. */
export function renewing(q: Query, lease: Lease, leaseMs: number): Compilable<OperationRow> {
  return q.cached("renew", { ...lease, now: q.now, until: q.now + leaseMs, leaseMs }, (db, p) =>
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

export function* report(q: Query, lease: Lease, progress: Omit<Progress, "at">): Script<void> {
  if (!(yield* first(reporting(q, lease, progress)))) yield* held(q, lease);
}

/** As {@link renewing}. */
export function reporting(q: Query, lease: Lease, progress: Omit<Progress, "at">): Compilable<object> {
  const text = JSON.stringify({ ...progress, at: q.now } satisfies Progress);
  return q.cached("report", { ...lease, now: q.now, text }, (db, p) =>
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

export function* apply(q: Query, lease: Lease, changes: Changes): Script<void> {
  const row = yield* held(q, lease);
  yield* applyChanges(q, row.owner, changes);
}

/**
 * Ends the attempt. An operation that is given back although it was cancelled, is past its deadline or had its last
 * attempt ends here: it would only be ended later.
 */
export function* settle(q: Query, lease: Lease, outcome: Outcome, changes: Changes): Script<Operation> {
  const row = yield* held(q, lease);
  yield* applyChanges(q, row.owner, changes);
  if (outcome.state !== "queued") return toOperation(yield* end(q, row, outcome));
  const { error } = outcome;
  if (row.deadline_at <= q.now || (row.attempt >= LIMITS.attempts && row.cancel_requested_at === null)) {
    return toOperation(yield* end(q, row, { state: "failed", error }));
  }
  if (row.cancel_requested_at !== null) {
    const cancelled = { ...CANCELLED, message: "The operation was cancelled between two attempts." };
    return toOperation(yield* end(q, row, { state: "cancelled", error: cancelled }));
  }
  return toOperation(yield* giveBack(q, row, Math.max(outcome.run_at, q.now), error));
}

/** What an attempt has ended as, if it ended so: only its holder completes it. */
export function* settled(q: Query, lease: Lease, { state }: Outcome): Script<Operation | undefined> {
  const row = yield* operationRow(q, null, lease.operation_id);
  return state === "completed" && row.state === state && row.attempt === lease.attempt
    ? toOperation(row)
    : undefined;
}

function* held(q: Query, lease: Lease): Script<OperationRow> {
  const row = yield* operationRow(q, null, lease.operation_id);
  if (
    row.state !== "running" ||
    row.attempt !== lease.attempt ||
    row.claimed_by !== lease.node_id ||
    (row.lease_until ?? 0) <= q.now
  ) {
    throw new FormationError(
      "conflict",
      `Attempt ${lease.attempt} of ${row.id} is over: it is ${row.state}, attempt ${row.attempt}.`,
      { remedy: "Stop what this attempt started and claim again." },
    );
  }
  return row;
}
