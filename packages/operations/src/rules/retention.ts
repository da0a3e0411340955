// The steps of a sweep that remove what is older than its retention: ended operations, idempotency keys,
// documents, counters, lines of the audit log, deleted instances with their deployments, and unused builds.

import { LIMITS } from "@formation-mcp/contract";
import { expressionBuilder, type Kysely, sql } from "kysely";
import type { SweepResult } from "../port.ts";
import { toBuild, toOperation } from "../sql/rows.ts";
import type { OperationRow, Tables } from "../sql/schema.ts";
import { all, first, lockName, ONE, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { removeOldLines } from "./audit-retention.ts";
import { clearMetadata } from "./records.ts";
import { BATCH_ROWS, BULK_ROWS, type SweepOptions, type SweepStep } from "./sweep-batches.ts";

/** An idempotency key is kept longer than its operation, so it gets a copy of it first. */
function* expiredOperations(
  tx: Transaction,
  { operationKeptMs }: SweepOptions,
  result: SweepResult,
): TransactionScript<boolean> {
  yield* lockName(tx, "sweep operations");
  const batch = { before: tx.now - operationKeptMs };
  // Most operations have no key. This query avoids the join, which is a tenth of the cost of the step.
  const open = yield* first(
    tx.cached("sweep.open", {}, (db) =>
      db.selectFrom("idempotency").select("operation_id").where("operation", "is", null).limit(ONE),
    ),
  );
  const keyed = open ? yield* keyedOperations(tx, batch) : [];
  for (const row of keyed) {
    yield* run(
      tx.cached("sweep.keep", { id: row.id, operation: JSON.stringify(toOperation(row)) }, (db, p) =>
        db.updateTable("idempotency").set({ operation: p.operation }).where("operation_id", "=", p.id),
      ),
    );
  }
  const guarded = open !== undefined || tx.locks.manyWriters;
  const removed = yield* run(
    tx.cached(`sweep.operations ${guarded}`, batch, (db, p) => {
      const remove = db.deleteFrom("operations").where("seq", "in", due(db, p));
      return guarded ? remove.where(({ not }) => not(uncopied(db))) : remove;
    }),
  );
  result.removedOperations += removed;
  return removed === BULK_ROWS;
}

/** The next operations to remove. The copy for keys and the delete must select the same rows. */
function due(db: Kysely<Tables>, { before }: { before: number }) {
  return db
    .selectFrom("operations")
    .select("seq")
    .where("ended_at", "is not", null)
    .where("ended_at", "<=", before)
    .orderBy("ended_at")
    .orderBy("seq")
    .limit(sql.lit(BULK_ROWS));
}

/** Whether a key of this operation still lacks its copy: such an operation is removed by the next sweep. */
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

function* keyedOperations(tx: Transaction, batch: { before: number }): TransactionScript<OperationRow[]> {
  return yield* all(
    tx.cached("sweep.keyed", batch, (db, p) =>
      db
        .selectFrom("operations as o")
        .innerJoin("idempotency as i", "i.operation_id", "o.id")
        .selectAll("o")
        .where("o.seq", "in", due(db, p)),
    ),
  );
}

/**
 * Removes the rows that carry their own time, in the tables that this process sees. Usually there are none,
 * which one query of the indexes shows.
 */
function* expiredRows(
  tx: Transaction,
  { auditKeptMs = LIMITS.auditKeptMs }: SweepOptions,
): TransactionScript<boolean> {
  const due = yield* first(
    tx.cached("sweep.due", { now: tx.now, audited: tx.now - auditKeptMs }, (db, p) =>
      db.selectNoFrom(({ exists, selectFrom, lit }) => {
        const keys = exists(selectFrom("idempotency").select("owner").where("expires_at", "<=", p.now));
        if (!tx.seesPrivate) {
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
  if (due?.keys) more = (yield* run(keys(tx))) === BULK_ROWS;
  if (due?.documents) more = (yield* run(documents(tx))) === BULK_ROWS || more;
  if (due?.counters) more = (yield* run(counters(tx))) === BULK_ROWS || more;
  if (due?.lines) more = (yield* removeOldLines(tx, tx.now - auditKeptMs)) || more;
  return more;
}

function keys(tx: Transaction) {
  return tx.cached("sweep.keys", { now: tx.now }, (db, p) =>
    db
      .deleteFrom("idempotency")
      // Checked on the row itself too: it may have been written again since the subquery found it.
      .where("expires_at", "<=", p.now)
      .where("operation_id", "in", (eb) =>
        eb
          .selectFrom("idempotency")
          .select("operation_id")
          .where("expires_at", "<=", p.now)
          .limit(sql.lit(BULK_ROWS)),
      ),
  );
}

function documents(tx: Transaction) {
  return tx.cached("sweep.documents", { now: tx.now }, (db, p) =>
    db
      .deleteFrom("documents")
      .where("expires_at", "<=", p.now)
      .where("seq", "in", (eb) =>
        eb.selectFrom("documents").select("seq").where("expires_at", "<=", p.now).limit(sql.lit(BULK_ROWS)),
      ),
  );
}

function counters(tx: Transaction) {
  return tx.cached("sweep.counters", { now: tx.now }, (db, p) =>
    db
      .deleteFrom("counters")
      .where("expires_at", "<=", p.now)
      .where("key", "in", (eb) =>
        eb.selectFrom("counters").select("key").where("expires_at", "<=", p.now).limit(sql.lit(BULK_ROWS)),
      ),
  );
}

/** Removes instances that were deleted long ago, with their deployments and metadata. */
function* deletedInstances(tx: Transaction, { operationKeptMs }: SweepOptions): TransactionScript<boolean> {
  const rows = yield* all(
    tx.cached("sweep.deleted", { before: tx.now - operationKeptMs }, (db, p) =>
      tx.locks.skipLocked(
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
          .limit(sql.lit(BATCH_ROWS)),
        "i",
      ),
    ),
  );
  for (const { seq, id } of rows) {
    yield* run(
      tx.cached("sweep.deployments", { id }, (db, p) =>
        db.deleteFrom("deployments").where("instance_id", "=", p.id),
      ),
    );
    yield* clearMetadata(tx, seq);
    yield* run(
      tx.cached("sweep.instance", { seq }, (db, p) => db.deleteFrom("instances").where("seq", "=", p.seq)),
    );
  }
  return rows.length === BATCH_ROWS;
}

/**
 * A build is in use while an instance that is not deleted runs it, or an unfinished or live deployment is for
 * it.
 */
function* unusedBuilds(
  tx: Transaction,
  { unusedBuildKeptMs }: SweepOptions,
  result: SweepResult,
): TransactionScript<boolean> {
  const rows = yield* all(
    tx.cached("sweep.builds", { before: tx.now - unusedBuildKeptMs }, (db, p) =>
      db
        .deleteFrom("builds")
        .where("seq", "in", (eb) =>
          tx.locks.skipLocked(
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
              .limit(sql.lit(BATCH_ROWS)),
            "b",
          ),
        )
        .returningAll(),
    ),
  );
  result.removedBuilds.push(...rows.map(toBuild));
  return rows.length === BATCH_ROWS;
}

export const RETENTION_STEPS: readonly SweepStep[] = [
  expiredOperations,
  expiredRows,
  deletedInstances,
  unusedBuilds,
];
