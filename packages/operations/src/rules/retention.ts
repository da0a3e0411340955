// What is removed by time: ended operations, idempotency keys, documents, counters, lines of the audit log, deleted
// instances with their deployments, unused builds.

import { LIMITS } from "@formation-mcp/contract";
import { expressionBuilder, type Kysely, sql } from "kysely";
import type { SweepResult } from "../port.ts";
import { alone } from "../sql/locks.ts";
import { toBuild, toOperation } from "../sql/rows.ts";
import type { OperationRow, Tables } from "../sql/schema.ts";
import { all, count, first, ONE, type Query, type Script } from "../sql/script.ts";
import { forgetLines } from "./audit-retention.ts";
import { FEW, MANY, type Options, type Step } from "./sweep-batches.ts";

/** An idempotency key outlives its operation: it keeps a copy. */
function* expiredOperations(q: Query, { operationKeptMs }: Options, result: SweepResult): Script<boolean> {
  yield* alone(q, "sweep operations");
  const batch = { before: q.now - operationKeptMs };
  // Most operations have no key: whether any waits for its copy is asked first, because the join costs a tenth of it all.
  const open = yield* first(
    q.cached("sweep.open", {}, (db) =>
      db.selectFrom("idempotency").select("operation_id").where("operation", "is", null).limit(ONE),
    ),
  );
  const keyed = open ? yield* keyedOperations(q, batch) : [];
  for (const row of keyed) {
    yield* count(
      q.cached("sweep.keep", { id: row.id, operation: JSON.stringify(toOperation(row)) }, (db, p) =>
        db.updateTable("idempotency").set({ operation: p.operation }).where("operation_id", "=", p.id),
      ),
    );
  }
  const guarded = open !== undefined || q.locks.shared;
  const removed = yield* count(
    q.cached(`sweep.operations ${guarded}`, batch, (db, p) => {
      const remove = db.deleteFrom("operations").where("seq", "in", due(db, p));
      return guarded ? remove.where(({ not }) => not(uncopied(db))) : remove;
    }),
  );
  result.removedOperations += removed;
  return removed === MANY;
}

/** The rows that go next: what copies for keys and what deletes must mean the same ones. */
function due(db: Kysely<Tables>, { before }: { before: number }) {
  return db
    .selectFrom("operations")
    .select("seq")
    .where("ended_at", "is not", null)
    .where("ended_at", "<=", before)
    .orderBy("ended_at")
    .orderBy("seq")
    .limit(sql.lit(MANY));
}

/** What ended so late that its copy was not made yet goes with the next sweep. */
function uncopied(db: Kysely<Tables>) {
  const { exists, ref } = expressionBuilder<Tables, "operations">();
  return exists(
    db
      .selectFrom("idempotency as i")
      .select("i.operation_id")
      .where("i.operation_id", "=", ref("operations.id"))
      .where("i.operation", "is", null),
  );
}

function* keyedOperations(q: Query, batch: { before: number }): Script<OperationRow[]> {
  return yield* all(
    q.cached("sweep.keyed", batch, (db, p) =>
      db
        .selectFrom("operations as o")
        .innerJoin("idempotency as i", "i.operation_id", "o.id")
        .selectAll("o")
        .where("o.seq", "in", due(db, p)),
    ),
  );
}

/**
 * What is one row and goes by its own time, as far as this process may see it. Mostly there is none, which one question to
 * the indexes tells.
 */
function* expiredRows(q: Query, { auditKeptMs = LIMITS.auditKeptMs }: Options): Script<boolean> {
  const due = yield* first(
    q.cached("sweep.due", { now: q.now, audited: q.now - auditKeptMs }, (db, p) =>
      db.selectNoFrom(({ exists, selectFrom, lit }) => {
        const keys = exists(selectFrom("idempotency").select("owner").where("expires_at", "<=", p.now));
        if (!q.whole) {
          return [
            keys.as("keys"),
            ...["documents", "counters", "lines"].map((it) => lit(false).as(it as "lines")),
          ];
        }
        return [
          keys.as("keys"),
          exists(selectFrom("documents").select("seq").where("expires_at", "<=", p.now)).as("documents"),
          exists(selectFrom("counters").select("key").where("expires_at", "<=", p.now)).as("counters"),
          exists(selectFrom("audit").select("id").where("at", "<=", p.audited)).as("lines"),
        ];
      }),
    ),
  );
  let more = false;
  if (due?.keys) more = (yield* count(keys(q))) === MANY;
  if (due?.documents) more = (yield* count(documents(q))) === MANY || more;
  if (due?.counters) more = (yield* count(counters(q))) === MANY || more;
  if (due?.lines) more = (yield* forgetLines(q, q.now - auditKeptMs)) || more;
  return more;
}

function keys(q: Query) {
  return q.cached("sweep.keys", { now: q.now }, (db, p) =>
    db
      .deleteFrom("idempotency")
      // Asked of the row itself too: it may have been written anew since it was found.
      .where("expires_at", "<=", p.now)
      .where("operation_id", "in", (eb) =>
        eb
          .selectFrom("idempotency")
          .select("operation_id")
          .where("expires_at", "<=", p.now)
          .limit(sql.lit(MANY)),
      ),
  );
}

function documents(q: Query) {
  return q.cached("sweep.documents", { now: q.now }, (db, p) =>
    db
      .deleteFrom("documents")
      .where("expires_at", "<=", p.now)
      .where("seq", "in", (eb) =>
        eb.selectFrom("documents").select("seq").where("expires_at", "<=", p.now).limit(sql.lit(MANY)),
      ),
  );
}

function counters(q: Query) {
  return q.cached("sweep.counters", { now: q.now }, (db, p) =>
    db
      .deleteFrom("counters")
      .where("expires_at", "<=", p.now)
      .where("key", "in", (eb) =>
        eb.selectFrom("counters").select("key").where("expires_at", "<=", p.now).limit(sql.lit(MANY)),
      ),
  );
}

function* deletedInstances(q: Query, { operationKeptMs }: Options): Script<boolean> {
  const rows = yield* all(
    q.cached("sweep.deleted", { before: q.now - operationKeptMs }, (db, p) =>
      q.locks.skipLocked(
        db
          .selectFrom("instances as i")
          .select(["i.seq", "i.id"])
          .where("i.state", "=", sql.lit("deleted" as const))
          .where("i.updated_at", "<=", p.before)
          .where(({ not, exists, selectFrom }) =>
            not(
              exists(
                selectFrom("operations as o")
                  .select("o.seq")
                  .whereRef("o.serial_key", "=", "i.id")
                  .where("o.ended_at", "is", null),
              ),
            ),
          )
          .limit(sql.lit(FEW)),
        "i",
      ),
    ),
  );
  for (const { seq, id } of rows) {
    yield* count(
      q.cached("sweep.deployments", { id }, (db, p) =>
        db.deleteFrom("deployments").where("instance_id", "=", p.id),
      ),
    );
    yield* count(
      q.cached("metadata.clear", { seq }, (db, p) =>
        db.deleteFrom("instance_metadata").where("instance_seq", "=", p.seq),
      ),
    );
    yield* count(
      q.cached("sweep.instance", { seq }, (db, p) => db.deleteFrom("instances").where("seq", "=", p.seq)),
    );
  }
  return rows.length === FEW;
}

/** A build is in use while an instance that is not deleted is made of it, or is to be. */
function* unusedBuilds(q: Query, { unusedBuildKeptMs }: Options, result: SweepResult): Script<boolean> {
  const rows = yield* all(
    q.cached("sweep.builds", { before: q.now - unusedBuildKeptMs }, (db, p) =>
      db
        .deleteFrom("builds")
        .where("seq", "in", (eb) =>
          q.locks.skipLocked(
            eb
              .selectFrom("builds as b")
              .select("b.seq")
              .where("b.ended_at", "is not", null)
              .where("b.used_at", "<=", p.before)
              .where(({ not, exists, selectFrom }) =>
                not(
                  exists(
                    selectFrom("instances as i")
                      .select("i.seq")
                      .whereRef("i.build_id", "=", "b.id")
                      .where("i.state", "<>", sql.lit("deleted" as const)),
                  ),
                ),
              )
              .where(({ not, exists, selectFrom }) =>
                not(
                  exists(
                    selectFrom("deployments as d")
                      .innerJoin("instances as i", "i.id", "d.instance_id")
                      .select("d.seq")
                      .whereRef("d.build_id", "=", "b.id")
                      .where(
                        "d.state",
                        "in",
                        (["queued", "deploying", "live"] as const).map((state) => sql.lit(state)),
                      )
                      .where("i.state", "<>", sql.lit("deleted" as const)),
                  ),
                ),
              )
              .limit(sql.lit(FEW)),
            "b",
          ),
        )
        .returningAll(),
    ),
  );
  result.removedBuilds.push(...rows.map(toBuild));
  return rows.length === FEW;
}

export const EXPIRED: readonly Step[] = [expiredOperations, expiredRows, deletedInstances, unusedBuilds];
