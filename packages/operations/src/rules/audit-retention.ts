// How the audit log forgets: from the front of chains alone, so that what stays of one is a single piece. A seal then says
// which line the first that stays follows.

import { sql } from "kysely";
import { onlyWriter } from "../sql/locks.ts";
import { all, count, first, ONE, type Query, type Script } from "../sql/script.ts";
import { MANY } from "./sweep-batches.ts";

/** Removes a batch of lines as old as `before`, and returns whether there may be more. */
export function* forgetLines(q: Query, before: number): Script<boolean> {
  const due = yield* all(
    q.cached("audit.due", { before }, (db, p) =>
      db
        .selectFrom("audit")
        .select("chain")
        .where("at", "<=", p.before)
        .orderBy("at")
        .orderBy("id")
        .limit(sql.lit(MANY)),
    ),
  );
  let removed = 0;
  for (const chain of new Set(due.map((line) => line.chain))) {
    removed += yield* cutFront(q, chain, before);
    if (removed >= MANY) return true;
  }
  return due.length === MANY && removed > 0;
}

interface Line {
  seq: number;
  hash: string;
  at: number;
}

function* frontOf(q: Query, chain: string): Script<Line[]> {
  return yield* all(
    q.cached("audit.front", { chain }, (db, p) =>
      db
        .selectFrom("audit")
        .select(["seq", "hash", "at"])
        .where("chain", "=", p.chain)
        .orderBy("seq")
        .limit(sql.lit(MANY + 1)),
    ),
  );
}

function* cutFront(q: Query, chain: string, before: number): Script<number> {
  let front = yield* frontOf(q, chain);
  if (front.length <= MANY && front.every(({ at }) => at <= before)) {
    // Before a chain goes as a whole: nobody adds a line or a seal to it meanwhile.
    yield* onlyWriter(q, "audit", "audit_seals");
    if (q.locks.shared) front = yield* frontOf(q, chain);
  }
  const young = front.findIndex(({ at }) => at > before);
  let cut = Math.min(young === -1 ? front.length : young, MANY);
  // The last line of a chain stays while its seal does, which would miss it.
  if (cut === front.length && (yield* newestSeal(q, chain)) > before) cut--;
  const last = front[cut - 1];
  if (!last) return 0;
  yield* count(
    q.cached("audit.cut", { chain, seq: last.seq }, (db, p) =>
      db.deleteFrom("audit").where("chain", "=", p.chain).where("seq", "<=", p.seq),
    ),
  );
  const stays = cut < front.length;
  if (stays) yield* anchor(q, { chain, ...last });
  yield* count(
    q.cached("audit.unseal", { chain, seq: stays ? last.seq : Number.MAX_SAFE_INTEGER }, (db, p) =>
      db.deleteFrom("audit_seals").where("chain", "=", p.chain).where("seq", "<", p.seq),
    ),
  );
  return cut;
}

function* anchor(q: Query, seal: { chain: string; seq: number; hash: string; at: number }): Script<void> {
  yield* count(
    q.cached("audit.anchor", seal, (db, p) =>
      db
        .insertInto("audit_seals")
        .values(p)
        .onConflict((conflict) => conflict.columns(["chain", "seq"]).doNothing()),
    ),
  );
}

/** When a chain was last sealed; 0 if never. */
function* newestSeal(q: Query, chain: string): Script<number> {
  const seal = yield* first(
    q.cached("audit.sealed", { chain }, (db, p) =>
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
