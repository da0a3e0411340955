// How old lines of the audit log are removed: only from the front of a chain, so that the rest stays in one
// piece. A seal then holds the hash of the last removed line, which the first kept line follows. This folder
// knows the rules of the store, one topic a file; each rule is a script. See docs/store.md.

import { sql } from "kysely";
import { all, first, lockTables, ONE, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { BULK_ROWS } from "./sweep-batches.ts";

/** Removes a batch of lines from `before` or earlier, and returns whether there may be more. */
export function* removeOldLines(tx: Transaction, before: number): TransactionScript<boolean> {
  const due = yield* all(
    tx.cached("audit.due", { before }, (db, p) =>
      db
        .selectFrom("audit")
        .select("chain")
        .where("at", "<=", p.before)
        .orderBy("at")
        .orderBy("id")
        .limit(sql.lit(BULK_ROWS)),
    ),
  );
  let removed = 0;
  for (const chain of new Set(due.map((line) => line.chain))) {
    removed += yield* cutFront(tx, chain, before);
    if (removed >= BULK_ROWS) return true;
  }
  return due.length === BULK_ROWS && removed > 0;
}

interface Line {
  seq: number;
  hash: string;
  at: number;
}

/** The oldest lines of a chain: one more than a batch. */
function* frontOf(tx: Transaction, chain: string): TransactionScript<Line[]> {
  return yield* all(
    tx.cached("audit.front", { chain }, (db, p) =>
      db
        .selectFrom("audit")
        .select(["seq", "hash", "at"])
        .where("chain", "=", p.chain)
        .orderBy("seq")
        .limit(sql.lit(BULK_ROWS + 1)),
    ),
  );
}

/** Removes the old lines at the front of a chain, one batch at the most. @returns how many */
function* cutFront(tx: Transaction, chain: string, before: number): TransactionScript<number> {
  let front = yield* frontOf(tx, chain);
  if (front.length <= BULK_ROWS && front.every(({ at }) => at <= before)) {
    // The whole chain may go. Without this lock another transaction could add a line or a seal to it at the
    // same time.
    yield* lockTables(tx, "audit", "audit_seals");
    if (tx.locks.manyWriters) front = yield* frontOf(tx, chain);
  }
  const young = front.findIndex(({ at }) => at > before);
  let cut = Math.min(young === -1 ? front.length : young, BULK_ROWS);
  // The last line of a chain stays as long as its seal, which refers to it.
  if (cut === front.length && (yield* newestSeal(tx, chain)) > before) cut--;
  const last = front[cut - 1];
  if (!last) return 0;
  yield* run(
    tx.cached("audit.cut", { chain, seq: last.seq }, (db, p) =>
      db.deleteFrom("audit").where("chain", "=", p.chain).where("seq", "<=", p.seq),
    ),
  );
  const stays = cut < front.length;
  if (stays) yield* anchor(tx, { chain, ...last });
  yield* run(
    tx.cached("audit.unseal", { chain, seq: stays ? last.seq : Number.MAX_SAFE_INTEGER }, (db, p) =>
      db.deleteFrom("audit_seals").where("chain", "=", p.chain).where("seq", "<", p.seq),
    ),
  );
  return cut;
}

/** Keeps the hash of the last line removed, as a seal. */
function* anchor(
  tx: Transaction,
  seal: { chain: string; seq: number; hash: string; at: number },
): TransactionScript<void> {
  yield* run(
    tx.cached("audit.anchor", seal, (db, p) =>
      db
        .insertInto("audit_seals")
        .values(p)
        .onConflict((conflict) => conflict.columns(["chain", "seq"]).doNothing()),
    ),
  );
}

/** When a chain was last sealed, in milliseconds since the epoch; 0 if never. */
function* newestSeal(tx: Transaction, chain: string): TransactionScript<number> {
  const seal = yield* first(
    tx.cached("audit.sealed", { chain }, (db, p) =>
      db
        .selectFrom("audit_seals")
        .select("at")
        .where("chain", "=", p.chain)
        .orderBy("seq", "desc")
        .limit(ONE),
    ),
  );
  return seal?.at ?? 0;
}
