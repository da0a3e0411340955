// Claiming: which queued operation a node gets. An attempt is over when its lease ran out, and not before;
// the next claim or the sweep then gives the operation back to the queue.

import type { Operation } from "@formation-mcp/contract";
import { LIMITS } from "@formation-mcp/contract";
import { type Compilable, type Expression, type Kysely, type SelectQueryBuilder, sql } from "kysely";
import type { Store } from "../port.ts";
import { labelParts, labelsAmong } from "../sql/labels.ts";
import { toOperation } from "../sql/rows.ts";
import type { OperationRow, Tables } from "../sql/schema.ts";
import {
  all,
  first,
  numberedParams,
  numberedValues,
  ONE,
  type Transaction,
  type TransactionScript,
} from "../sql/script.ts";
import { BATCH_ROWS } from "./sweep-batches.ts";
import { requeue } from "./transitions.ts";

type Request = Parameters<Store["claim"]>[0];

/**
 * `OFFSET 0` stops PostgreSQL from rewriting a subquery with ORDER BY and LIMIT, so that it reads the index
 * of that order, also inside EXISTS. Without it the planner may read all unfinished operations.
 */
const OFFSET_0_BARRIER = sql.lit(0);

/** Claims an operation as `Store.claim` describes. */
export function* claim(tx: Transaction, request: Request): TransactionScript<Operation | null> {
  yield* requeueExpired(tx);
  const { subjects } = request;
  if (subjects.length === 0) return null;
  let row = yield* claimFrom(tx, request, subjects);
  if (!row && tx.locks.manyWriters && subjects.length > 1) {
    // Other transactions may have locked the oldest rows of one subject while another subject has free ones.
    for (const subject of subjects) row ??= yield* claimFrom(tx, request, [subject]);
  }
  return row ? toOperation(row) : null;
}

/**
 * A claim in one statement. It claims nothing while there is an expired lease that {@link claim} has to
 * requeue first.
 */
export function claimInOneStatement(tx: Transaction, request: Request): Compilable<OperationRow> {
  return claimStatement(tx, request, request.subjects, true);
}

function* claimFrom(
  tx: Transaction,
  request: Request,
  subjects: string[],
): TransactionScript<OperationRow | undefined> {
  return yield* first(claimStatement(tx, request, subjects, false));
}

/** Updates the oldest operation that fits. @param guarded as {@link claimInOneStatement} says. */
function claimStatement(
  tx: Transaction,
  request: Request,
  subjects: string[],
  guarded: boolean,
): Compilable<OperationRow> {
  const { free } = request;
  const labels = labelParts(request.labels ?? {});
  const params = {
    ...numberedParams("subject", subjects),
    ...numberedParams("label", labels),
    node: request.node_id,
    vcpus: free.vcpus,
    memory: free.memory_mb,
    disk: free.disk_gb,
    now: tx.now,
    attempts: LIMITS.attempts,
    until: tx.now + request.leaseMs,
  };
  return tx.cached(`claim ${subjects.length} ${labels.length} ${guarded}`, params, (db, p) => {
    const fit = { ...p, labels: numberedValues(p, "label", labels.length) };
    const named = numberedValues(p, "subject", subjects.length);
    const claim = db
      .updateTable("operations")
      .set((eb) => ({
        state: "running",
        attempt: eb("attempt", "+", 1),
        claimed_by: p.node,
        lease_until: p.until,
        started_at: eb.fn.coalesce("started_at", eb.val(p.now)),
        progress: null,
        error: null,
        updated_at: p.now,
        version: eb("version", "+", 1),
      }))
      .where("seq", "=", tx.locks.manyWriters ? oldestUnlocked(tx, db, named, fit) : oldest(db, named, fit))
      .returningAll();
    if (!guarded) return claim;
    const expired = retryableExpired(db, p).select("seq").limit(ONE).offset(OFFSET_0_BARRIER);
    return claim.where(({ not, exists }) => not(exists(expired)));
  });
}

/** What an operation must fit, as values or as parameters of a query. */
interface Fit {
  node: Request["node_id"];
  labels: string[];
  vcpus: number;
  memory: number;
  disk: number;
  now: number;
}

/** The oldest operation that fits, where no other transaction writes. */
function oldest(db: Kysely<Tables>, subjects: string[], fit: Fit) {
  return db
    .selectFrom(oldestOfEach(db, subjects, fit).as("any"))
    .select((eb) => eb.fn.min<number>("any.seq").as("seq"));
}

/**
 * The oldest operation that fits and that no other transaction has locked, of the subject with the oldest
 * that fits. It locks one row, never one of each subject: a claimer that skips a row which is then not
 * claimed would leave it unclaimed.
 */
function oldestUnlocked(tx: Transaction, db: Kysely<Tables>, subjects: string[], fit: Fit) {
  const [only = ""] = subjects;
  const first = db
    .selectFrom(oldestOfEach(db, subjects, fit).as("any"))
    .select("any.subject")
    .orderBy("any.seq")
    .limit(ONE);
  return tx.locks
    .skipLocked(oldestOf(db, subjects.length === 1 ? only : sql<string>`${first}`, fit), "o")
    .clearSelect()
    .select("o.seq");
}

/** The oldest operation that fits of each subject, each found through its own index. */
function oldestOfEach(db: Kysely<Tables>, subjects: string[], fit: Fit) {
  const [head, ...tail] = subjects.map((subject) =>
    db.selectFrom(oldestOf(db, subject, fit).as("one")).select(["one.seq", "one.subject"]),
  );
  if (!head) throw new TypeError("no subjects");
  return tail.reduce((left, right) => left.unionAll(right), head);
}

/** The oldest operation of a subject that fits, and that waits for no older one with the same serial key. */
function oldestOf(
  db: Kysely<Tables>,
  subject: string | Expression<string>,
  fit: Fit,
): SelectQueryBuilder<Tables & { o: Tables["operations"] }, "o", { seq: number; subject: string }> {
  return db
    .selectFrom("operations as o")
    .select(["o.seq", "o.subject"])
    .where("o.state", "=", sql.lit("queued" as const))
    .where("o.subject", "=", subject)
    .where((eb) =>
      eb.or([
        eb("o.node_id", "=", fit.node),
        eb.and([eb("o.node_id", "is", null), eb.not(eb.exists(cordonedNode(db, fit.node)))]),
      ]),
    )
    .where((eb) => eb.or([eb("o.labels", "is", null), labelsAmong("o.labels", fit.labels)]))
    .where("o.vcpus", "<=", fit.vcpus)
    .where("o.memory_mb", "<=", fit.memory)
    .where("o.disk_gb", "<=", fit.disk)
    .where("o.run_at", "<=", fit.now)
    .where("o.deadline_at", ">", fit.now)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom("operations as older")
            .select("older.seq")
            .whereRef("older.serial_key", "=", "o.serial_key")
            .whereRef("older.seq", "<", "o.seq")
            .where("older.ended_at", "is", null)
            .orderBy("older.seq")
            .limit(ONE)
            .offset(OFFSET_0_BARRIER),
        ),
      ),
    )
    .orderBy("o.seq")
    .limit(ONE) as never;
}

/** The node, if it is cordoned: then it takes only what is pinned to it. */
function cordonedNode(db: Kysely<Tables>, node: Request["node_id"]) {
  return db.selectFrom("nodes").select("id").where("id", "=", node).where("cordoned", "=", ONE);
}

/**
 * Gives operations whose lease ran out back to the queue. Those that may not be tried again (attempts used
 * up, cancelled, past the deadline) are left to the sweep, which also publishes their end.
 */
function* requeueExpired(tx: Transaction): TransactionScript<void> {
  const rows = yield* all(
    tx.cached("silent", { now: tx.now, attempts: LIMITS.attempts }, (db, p) =>
      tx.locks.skipLocked(retryableExpired(db, p).selectAll().limit(sql.lit(BATCH_ROWS))),
    ),
  );
  for (const row of rows) yield* requeue(tx, row, tx.now, leaseExpired(row.attempt));
}

function retryableExpired(db: Kysely<Tables>, { now, attempts }: { now: number; attempts: number }) {
  return db
    .selectFrom("operations")
    .where("state", "=", sql.lit("running" as const))
    .where("lease_until", "<=", now)
    .where("attempt", "<", attempts)
    .where("cancel_requested_at", "is", null)
    .where("deadline_at", ">", now)
    .orderBy("lease_until");
}

/** The error of an attempt whose lease ran out. */
export function leaseExpired(attempt: number) {
  return {
    code: "unavailable" as const,
    message: `Attempt ${attempt} ended without an answer: the worker that ran it fell silent.`,
    remedy: "It is tried again by itself.",
  };
}
