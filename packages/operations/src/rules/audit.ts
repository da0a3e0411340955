// The audit log: lines are appended, listed by their time, and read chain by chain. `control` computes the
// hashes.

import { type AuditRecord, type AuditSeal, FormationError } from "@formation-mcp/contract";
import { type SqlBool, sql } from "kysely";
import type { AuditQuery, AuditStore, Page } from "../port.ts";
import { clamped, cursorOf, filterOnly, readCursor } from "../sql/pages.ts";
import type { AuditRow } from "../sql/schema.ts";
import { all, limitParam, run, type Transaction, type TransactionScript } from "../sql/script.ts";

type Chains = Awaited<ReturnType<AuditStore["chains"]>>;

const COLUMNS = [
  "chain",
  "seq",
  "hash",
  "at",
  "owner",
  "credential",
  "action",
  "target",
  "outcome",
  "address",
  "trace_id",
] as const;
/**
 * Lines that one statement inserts. A rest is inserted line by line, because each number of lines is a
 * statement.
 */
const LINES_PER_INSERT = 20;

export function* append(tx: Transaction, records: readonly AuditRecord[]): TransactionScript<void> {
  for (let from = 0; from < records.length; ) {
    const size = records.length - from >= LINES_PER_INSERT ? LINES_PER_INSERT : 1;
    const lines = records.slice(from, from + size);
    const params = Object.fromEntries(
      lines.flatMap((line, n) => COLUMNS.map((column) => [`${column}${n}`, line[column]])),
    );
    const written = yield* run(
      tx.cached(`audit.add ${size}`, params, (db, p) =>
        db
          .insertInto("audit")
          .values(
            lines.map((_, n) =>
              Object.fromEntries(COLUMNS.map((column) => [column, p[`${column}${n}`]])),
            ) as never,
          )
          .onConflict((conflict) => conflict.columns(["chain", "seq"]).doNothing()),
      ),
    );
    if (written < size) throw taken("line", lines[0]?.seq ?? 0);
    from += size;
  }
}

/** The same seal may be written again, with a new time: the chain has not grown. */
export function* seal(tx: Transaction, { chain, seq, hash, at }: AuditSeal): TransactionScript<void> {
  const written = yield* run(
    tx.cached("audit.seal", { chain, seq, hash, at }, (db, p) =>
      db
        .insertInto("audit_seals")
        .values(p)
        .onConflict((conflict) =>
          conflict.columns(["chain", "seq"]).doUpdateSet({ at: p.at }).where("audit_seals.hash", "=", p.hash),
        ),
    ),
  );
  if (written === 0) throw taken("seal", seq);
}

function taken(what: string, seq: number): FormationError {
  return new FormationError("conflict", `The audit log has another ${what} ${seq} of this chain already.`, {
    remedy: "Give each run of a server process a chain of its own.",
  });
}

/** The end of the first page: after all that there is. */
const END = [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER] as const;

export function* auditPage(tx: Transaction, query: AuditQuery): TransactionScript<Page<AuditRecord>> {
  const { owner, action, outcome, since = 0, until = Number.MAX_SAFE_INTEGER, chain } = query;
  const limit = clamped(query.limit);
  const [at = 0, id = 0] = readCursor("aud", query.cursor, END);
  const given = { owner, action, outcome, chain };
  const key = Object.entries(given).filter(([, value]) => value !== undefined);
  const refused = outcome !== undefined && outcome !== "ok" && outcome !== "begun";
  const params = {
    owner: owner ?? "",
    action: action ?? "",
    outcome: outcome ?? "ok",
    chain: chain ?? "",
    since,
    // The start of the page bounds the index scan too, so that a later page costs no more than the first.
    until: Math.min(until, at + 1),
    at,
    id,
    limit: limit + 1,
  };
  const rows = yield* all(
    tx.cached(`audit.page ${key.map(([name]) => name)} ${refused}`, params, (db, p) => {
      let select = db
        .selectFrom("audit")
        .selectAll()
        .where("at", ">=", p.since)
        .where("at", "<", p.until)
        .where(sql<boolean>`(at, id) < (${p.at}, ${p.id})`);
      // One index drives the query and ends in the order of the page; the other conditions only filter.
      if (owner !== undefined) select = select.where("owner", "=", p.owner);
      if (action !== undefined) select = select.where("action", "=", p.action);
      if (refused && owner === undefined) {
        select = select.where(sql<SqlBool>`outcome not in ('ok', 'begun')`).where("outcome", "=", p.outcome);
      } else if (outcome !== undefined) select = select.where(filterOnly("outcome"), "=", p.outcome);
      if (chain !== undefined) select = select.where(filterOnly("chain"), "=", p.chain);
      return select.orderBy("at", "desc").orderBy("id", "desc").limit(limitParam(p.limit));
    }),
  );
  const last = rows[limit - 1];
  return {
    items: rows.slice(0, limit).map(toRecord),
    cursor: last && rows.length > limit ? cursorOf("aud", last.at, last.id) : null,
  };
}

export function* chains(tx: Transaction): TransactionScript<Chains> {
  const seals = Map.groupBy(
    yield* all(
      tx.cached("audit.seals", {}, (db) =>
        db.selectFrom("audit_seals").select(["chain", "seq", "hash", "at"]).orderBy("chain").orderBy("seq"),
      ),
    ),
    ({ chain }) => chain,
  );
  const rows = yield* all(
    tx.cached("audit.chains", {}, (db) =>
      db
        .selectFrom("audit")
        .select((eb) => [
          "chain",
          eb.fn.min<number>("id").as("began"),
          eb.fn.min<number>("seq").as("first_seq"),
          eb.fn.max<number>("seq").as("last_seq"),
        ])
        .groupBy("chain")
        .orderBy("began"),
    ),
  );
  const kept = rows.map(({ chain, first_seq, last_seq }) => ({
    chain,
    first_seq,
    last_seq,
    seals: seals.get(chain) ?? [],
  }));
  for (const { chain } of rows) seals.delete(chain);
  return [...[...seals].map(([chain, own]) => ({ chain, first_seq: 0, last_seq: 0, seals: own })), ...kept];
}

export function* readChain(
  tx: Transaction,
  chain: string,
  from: number,
  limit: number,
): TransactionScript<AuditRecord[]> {
  const rows = yield* all(
    tx.cached("audit.read", { chain, from, limit: clamped(limit) }, (db, p) =>
      db
        .selectFrom("audit")
        .selectAll()
        .where("chain", "=", p.chain)
        .where("seq", ">=", p.from)
        .orderBy("seq")
        .limit(limitParam(p.limit)),
    ),
  );
  return rows.map(toRecord);
}

function toRecord({ id, ...record }: AuditRow): AuditRecord {
  return record;
}
