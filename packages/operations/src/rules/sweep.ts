// The steps of a sweep over unfinished operations: leases that ran out, deadlines that passed, and wake-ups
// that may be lost.

import { LIMITS } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { SweepResult } from "../port.ts";
import { readLabels } from "../sql/labels.ts";
import { toJson, toOperation } from "../sql/rows.ts";
import type { OperationRow } from "../sql/schema.ts";
import { all, ONE, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { type WaitingOperation, waitingReason } from "../waiting-reason.ts";
import { leaseExpired } from "./claim.ts";
import { nodes } from "./nodes.ts";
import { BATCH_ROWS, type SweepOptions, type SweepStep } from "./sweep-batches.ts";
import { endOperation, type OperationEnd, requeue, updateOperation } from "./transitions.ts";

/** How many wake-ups one sweep sends. The next sweep sends the rest. */
const MAX_RESENDS = 500;

/** Ends each operation whose lease ran out, or gives it back to the queue. */
function* expiredLeases(tx: Transaction, _: SweepOptions, result: SweepResult): TransactionScript<boolean> {
  const rows = yield* all(
    tx.cached("sweep.silent", { now: tx.now }, (db, p) =>
      tx.locks.skipLocked(
        db
          .selectFrom("operations")
          .selectAll()
          .where("state", "=", sql.lit("running" as const))
          .where("lease_until", "<=", p.now)
          .limit(sql.lit(BATCH_ROWS)),
      ),
    ),
  );
  for (const row of rows) {
    const how = finalEnd(tx, row);
    if (how) {
      result.changed.push(toOperation(yield* endOperation(tx, row, how)));
      continue;
    }
    const queued = yield* requeue(tx, row, tx.now, leaseExpired(row.attempt));
    const sent = toOperation(yield* updateOperation(tx, queued, { send: row.send + 1, sent_at: tx.now }));
    result.changed.push(sent);
    result.resend.push(sent);
  }
  return rows.length === BATCH_ROWS;
}

/** How an operation whose lease ran out ends, or undefined if it may be tried again. */
function finalEnd(tx: Transaction, row: OperationRow): OperationEnd | undefined {
  const times = `${row.attempt} time${row.attempt === 1 ? "" : "s"}`;
  if (row.deadline_at <= tx.now) {
    return {
      state: "failed",
      error: {
        code: "unavailable",
        message: `The operation passed its deadline and its worker fell silent (attempt ${row.attempt}).`,
        remedy: "Look whether the worker runs and what its log says, then try again.",
      },
    };
  }
  if (row.cancel_requested_at !== null) {
    return {
      state: "cancelled",
      error: {
        code: "cancelled",
        message: "The operation was cancelled; its worker fell silent before it could confirm that.",
      },
    };
  }
  if (row.attempt < LIMITS.attempts) return undefined;
  return {
    state: "failed",
    error: {
      code: "unavailable",
      message: `The operation ended ${times} without an answer: each time its worker fell silent.`,
      remedy: "Look at the worker's log: this operation may be what ends it. Then try again.",
    },
  };
}

/** Fails queued operations that passed their deadline, and says what they waited for. */
function* unclaimed(tx: Transaction, _: SweepOptions, result: SweepResult): TransactionScript<boolean> {
  const rows = yield* all(
    tx.cached("sweep.unclaimed", { now: tx.now }, (db, p) =>
      tx.locks.skipLocked(
        db
          .selectFrom("operations")
          .selectAll()
          .where("deadline_at", "<=", p.now)
          .where("ended_at", "is", null)
          .where(sql`(state || '')`, "=", "queued")
          .limit(sql.lit(BATCH_ROWS)),
      ),
    ),
  );
  if (rows.length === 0) return false;
  const known = yield* nodes(tx);
  for (const row of rows) {
    const why = waitingReason(asWaiting(row, null), known, tx.now).replace(/^Waiting/, "It was waiting");
    const error = {
      code: "unavailable" as const,
      message:
        row.attempt === 0
          ? `Nobody could take the operation before its deadline. ${why}`
          : `The operation was tried ${row.attempt} times and passed its deadline. ${why}`,
      remedy: "Start a worker that has what it needs, or ask for less; then try again.",
    };
    result.changed.push(toOperation(yield* endOperation(tx, row, { state: "failed", error })));
  }
  return rows.length === BATCH_ROWS;
}

/**
 * Asks the worker of an operation past its deadline to cancel it. `renew` prolongs such a lease only once
 * more.
 */
function* overdue(tx: Transaction): TransactionScript<boolean> {
  yield* run(
    tx.cached("sweep.overdue", { now: tx.now }, (db, p) =>
      db
        .updateTable("operations")
        .set((eb) => ({
          cancel_requested_at: p.now,
          updated_at: p.now,
          version: eb("version", "+", 1),
        }))
        .where("seq", "in", (eb) =>
          tx.locks.skipLocked(
            eb
              .selectFrom("operations")
              .select("seq")
              .where("deadline_at", "<=", p.now)
              .where("ended_at", "is", null)
              .where(sql`(state || '')`, "=", "running")
              .where("cancel_requested_at", "is", null),
          ),
        ),
    ),
  );
  return false;
}

/** Raises `send` of operations that were not claimed for long, so that their wake-ups are published again. */
function* stranded(
  tx: Transaction,
  { strandedMs }: SweepOptions,
  result: SweepResult,
  before: SweepResult,
): TransactionScript<boolean> {
  const rows = yield* all(
    tx.cached("sweep.stranded", { now: tx.now, before: tx.now - strandedMs }, (db, p) =>
      tx.locks.skipLocked(
        db
          .selectFrom("operations as o")
          .selectAll("o")
          .select(({ selectFrom }) =>
            selectFrom("operations as older")
              .select("older.id")
              .whereRef("older.serial_key", "=", "o.serial_key")
              .whereRef("older.seq", "<", "o.seq")
              .where("older.ended_at", "is", null)
              .orderBy("older.seq", "desc")
              .limit(ONE)
              .as("behind"),
          )
          .where("o.state", "=", sql.lit("queued" as const))
          .where("o.sent_at", "<=", p.before)
          .where("o.run_at", "<=", p.now)
          .orderBy("o.sent_at")
          .limit(sql.lit(BATCH_ROWS)),
        "o",
      ),
    ),
  );
  if (rows.length === 0) return false;
  const known = yield* nodes(tx);
  for (const { behind, ...row } of rows) {
    const message = waitingReason(asWaiting(row, behind), known, tx.now);
    const progress = toJson({ step: "queued", message, fraction: null, at: tx.now });
    const sent = yield* updateOperation(tx, row, { send: row.send + 1, sent_at: tx.now, progress });
    result.resend.push(toOperation(sent));
  }
  return rows.length === BATCH_ROWS && before.resend.length + rows.length < MAX_RESENDS;
}

function asWaiting(
  { vcpus, memory_mb, disk_gb, node_id, labels }: OperationRow,
  behind: string | null,
): WaitingOperation {
  return { needs: { vcpus, memory_mb, disk_gb }, node_id, labels: readLabels(labels), behind };
}

/** The first steps of a sweep; `RETENTION_STEPS` follow. */
export const DUE_STEPS: readonly SweepStep[] = [expiredLeases, unclaimed, overdue, stranded];
