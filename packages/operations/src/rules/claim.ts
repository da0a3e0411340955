// Taking work: which queued operation a node gets, and what happens to one whose node fell silent. The rule of leases:
// an attempt is over when its lease ran out, and not before; whoever claims next, or the sweep, gives the operation back.

import type { Operation } from "@formation-mcp/contract";
import { LIMITS } from "@formation-mcp/contract";
import { type Compilable, type Expression, type Kysely, type SelectQueryBuilder, sql } from "kysely";
import type { Store } from "../port.ts";
import { allAmong, labelsOf } from "../sql/labels.ts";
import { toOperation } from "../sql/rows.ts";
import type { OperationRow, Tables } from "../sql/schema.ts";
import { all, first, numbered, ONE, type Query, type Script, values } from "../sql/script.ts";
import { FEW } from "./sweep-batches.ts";
import { giveBack } from "./transitions.ts";

type Request = Parameters<Store["claim"]>[0];

/**
 * What is asked for in an order, with this offset, PostgreSQL asks of the index of that order, also inside EXISTS; else it may
 * look at all that is unfinished.
 */
const FENCE = sql.lit(0);

export function* claim(q: Query, request: Request): Script<Operation | null> {
  yield* takeBackSilent(q);
  const { subjects } = request;
  if (subjects.length === 0) return null;
  let row = yield* claimOf(q, request, subjects);
  if (!row && q.locks.shared && subjects.length > 1) {
    // All that is oldest may be in other claimers' hands, while another subject has something.
    for (const subject of subjects) row ??= yield* claimOf(q, request, [subject]);
  }
  return row ? toOperation(row) : null;
}

/** The same in one statement, unless there is first something to be taken back: then it takes nothing. */
export function claimAtOnce(q: Query, request: Request): Compilable<OperationRow> {
  return claiming(q, request, request.subjects, true);
}

function* claimOf(q: Query, request: Request, subjects: string[]): Script<OperationRow | undefined> {
  return yield* first(claiming(q, request, subjects, false));
}

function claiming(
  q: Query,
  request: Request,
  subjects: string[],
  guarded: boolean,
): Compilable<OperationRow> {
  const { free } = request;
  const labels = labelsOf(request.labels ?? {});
  const params = {
    ...numbered("subject", subjects),
    ...numbered("label", labels),
    node: request.node_id,
    vcpus: free.vcpus,
    memory: free.memory_mb,
    disk: free.disk_gb,
    now: q.now,
    attempts: LIMITS.attempts,
    until: q.now + request.leaseMs,
  };
  return q.cached(`claim ${subjects.length} ${labels.length} ${guarded}`, params, (db, p) => {
    const fit = { ...p, labels: values(p, "label", labels.length) };
    const named = values(p, "subject", subjects.length);
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
      .where("seq", "=", q.locks.shared ? oldestFree(q, db, named, fit) : oldest(db, named, fit))
      .returningAll();
    if (!guarded) return claim;
    const silent = silentOnes(db, p).select("seq").limit(ONE).offset(FENCE);
    return claim.where(({ not, exists }) => not(exists(silent)));
  });
}

interface Fit {
  node: Request["node_id"];
  labels: string[];
  vcpus: number;
  memory: number;
  disk: number;
  now: number;
}

/** The oldest operation that fits. */
function oldest(db: Kysely<Tables>, subjects: string[], fit: Fit) {
  return db
    .selectFrom(heads(db, subjects, fit).as("any"))
    .select((eb) => eb.fn.min<number>("any.seq").as("seq"));
}

/**
 * Of the subject with the oldest operation that fits the oldest that nobody else is taking now. One row is held, never one of
 * each subject: who passes over a row that is then let go would leave it to nobody.
 */
function oldestFree(q: Query, db: Kysely<Tables>, subjects: string[], fit: Fit) {
  const [only = ""] = subjects;
  const first = db
    .selectFrom(heads(db, subjects, fit).as("any"))
    .select("any.subject")
    .orderBy("any.seq")
    .limit(ONE);
  return q.locks
    .skipLocked(oldestOf(db, subjects.length === 1 ? only : sql<string>`${first}`, fit), "o")
    .clearSelect()
    .select("o.seq");
}

/** The oldest of each subject, each through its own index. */
function heads(db: Kysely<Tables>, subjects: string[], fit: Fit) {
  const [head, ...tail] = subjects.map((subject) =>
    db.selectFrom(oldestOf(db, subject, fit).as("one")).select(["one.seq", "one.subject"]),
  );
  if (!head) throw new TypeError("no subjects");
  return tail.reduce((left, right) => left.unionAll(right), head);
}

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
        eb.and([eb("o.node_id", "is", null), eb.not(eb.exists(cordoned(db, fit.node)))]),
      ]),
    )
    .where((eb) => eb.or([eb("o.labels", "is", null), allAmong("o.labels", fit.labels)]))
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
            .offset(FENCE),
        ),
      ),
    )
    .orderBy("o.seq")
    .limit(ONE) as never;
}

/** A cordoned node takes what is pinned to it, and nothing else. */
function cordoned(db: Kysely<Tables>, node: Request["node_id"]) {
  return db.selectFrom("nodes").select("id").where("id", "=", node).where("cordoned", "=", ONE);
}

/**
 * Gives back what may be tried again. What may not (attempts used up, cancelled, past its deadline) is ended by the
 * sweep alone, because whoever ends an operation has to tell that to others.
 */
function* takeBackSilent(q: Query): Script<void> {
  const rows = yield* all(
    q.cached("silent", { now: q.now, attempts: LIMITS.attempts }, (db, p) =>
      q.locks.skipLocked(silentOnes(db, p).selectAll().limit(sql.lit(FEW))),
    ),
  );
  for (const row of rows) yield* giveBack(q, row, q.now, silent(row.attempt));
}

function silentOnes(db: Kysely<Tables>, { now, attempts }: { now: number; attempts: number }) {
  return db
    .selectFrom("operations")
    .where("state", "=", sql.lit("running" as const))
    .where("lease_until", "<=", now)
    .where("attempt", "<", attempts)
    .where("cancel_requested_at", "is", null)
    .where("deadline_at", ">", now)
    .orderBy("lease_until");
}

/** Why an attempt that nobody ended is over. */
export function silent(attempt: number) {
  return {
    code: "unavailable" as const,
    message: `Attempt ${attempt} ended without an answer: the worker that ran it fell silent.`,
    remedy: "It is tried again by itself.",
  };
}
