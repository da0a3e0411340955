// What is due by time alone: wake-ups that may be lost, deadlines, silent workers, and records whose time is over; done in
// small steps, so that other writers never wait long.

import { LIMITS } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { SweepResult } from "../port.ts";
import { readLabels } from "../sql/labels.ts";
import { toOperation, write } from "../sql/rows.ts";
import type { OperationRow } from "../sql/schema.ts";
import { all, count, ONE, type Query, type Script } from "../sql/script.ts";
import { type Waiting, waitingFor } from "../waiting-reason.ts";
import { silent } from "./claim.ts";
import { nodes } from "./nodes.ts";
import { FEW, type Options, type Step } from "./sweep-batches.ts";
import { type End, end, giveBack, move } from "./transitions.ts";

/** How many wake-ups one sweep sends: the rest is stranded still at the next. */
const RESEND = 500;

function* silentOnes(q: Query, _: Options, result: SweepResult): Script<boolean> {
  const rows = yield* all(
    q.cached("sweep.silent", { now: q.now }, (db, p) =>
      q.locks.skipLocked(
        db
          .selectFrom("operations")
          .selectAll()
          .where("state", "=", sql.lit("running" as const))
          .where("lease_until", "<=", p.now)
          .limit(sql.lit(FEW)),
      ),
    ),
  );
  for (const row of rows) {
    const how = over(q, row);
    if (how) {
      result.changed.push(toOperation(yield* end(q, row, how)));
      continue;
    }
    const queued = yield* giveBack(q, row, q.now, silent(row.attempt));
    const sent = toOperation(yield* move(q, queued, { send: row.send + 1, sent_at: q.now }));
    result.changed.push(sent);
    result.resend.push(sent);
  }
  return rows.length === FEW;
}

/** How a running operation ends whose lease ran out, or undefined if it may be tried again. */
function over(q: Query, row: OperationRow): End | undefined {
  const times = `${row.attempt} time${row.attempt === 1 ? "" : "s"}`;
  if (row.deadline_at <= q.now) {
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

function* untaken(q: Query, _: Options, result: SweepResult): Script<boolean> {
  const rows = yield* all(
    q.cached("sweep.untaken", { now: q.now }, (db, p) =>
      q.locks.skipLocked(
        db
          .selectFrom("operations")
          .selectAll()
          .where("deadline_at", "<=", p.now)
          .where("ended_at", "is", null)
          .where(sql`(state || '')`, "=", "queued")
          .limit(sql.lit(FEW)),
      ),
    ),
  );
  if (rows.length === 0) return false;
  const known = yield* nodes(q);
  for (const row of rows) {
    const why = waitingFor(waiting(row, null), known, q.now).replace(/^Waiting/, "It was waiting");
    const error = {
      code: "unavailable" as const,
      message:
        row.attempt === 0
          ? `Nobody could take the operation before its deadline. ${why}`
          : `The operation was tried ${row.attempt} times and passed its deadline. ${why}`,
      remedy: "Start a worker that has what it needs, or ask for less; then try again.",
    };
    result.changed.push(toOperation(yield* end(q, row, { state: "failed", error })));
  }
  return rows.length === FEW;
}

/** Whoever runs an operation past its deadline is asked to end it; the lease is not prolonged for ever. */
function* overdue(q: Query): Script<boolean> {
  yield* count(
    q.cached("sweep.overdue", { now: q.now }, (db, p) =>
      db
        .updateTable("operations")
        .set((eb) => ({
          cancel_requested_at: p.now,
          updated_at: p.now,
          version: eb("version", "+", 1),
        }))
        .where("seq", "in", (eb) =>
          q.locks.skipLocked(
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

function* stranded(
  q: Query,
  { strandedMs }: Options,
  result: SweepResult,
  before: SweepResult,
): Script<boolean> {
  const rows = yield* all(
    q.cached("sweep.stranded", { now: q.now, before: q.now - strandedMs }, (db, p) =>
      q.locks.skipLocked(
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
          .limit(sql.lit(FEW)),
        "o",
      ),
    ),
  );
  if (rows.length === 0) return false;
  const known = yield* nodes(q);
  for (const { behind, ...row } of rows) {
    const message = waitingFor(waiting(row, behind), known, q.now);
    const progress = write({ step: "queued", message, fraction: null, at: q.now });
    const sent = yield* move(q, row, { send: row.send + 1, sent_at: q.now, progress });
    result.resend.push(toOperation(sent));
  }
  return rows.length === FEW && before.resend.length + rows.length < RESEND;
}

function waiting(
  { vcpus, memory_mb, disk_gb, node_id, labels }: OperationRow,
  behind: string | null,
): Waiting {
  return { needs: { vcpus, memory_mb, disk_gb }, node_id, labels: readLabels(labels), behind };
}

/** What is ended, given back and woken again; what is removed is the next thing. */
export const DUE: readonly Step[] = [silentOnes, untaken, overdue, stranded];
