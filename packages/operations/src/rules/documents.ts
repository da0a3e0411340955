// Documents: small records with a version for compare-and-set, an optional alias, and an end after which they
// are absent.

import {
  type Documents,
  FormationError,
  type NewDocument,
  type StoredDocument,
} from "@formation-mcp/contract";
import type { ExpressionBuilder } from "kysely";
import type { Page } from "../port.ts";
import { page } from "../sql/pages.ts";
import type { DocumentRow, Tables } from "../sql/schema.ts";
import {
  all,
  first,
  limitParam,
  numberedParams,
  numberedValues,
  run,
  type Transaction,
  type TransactionScript,
} from "../sql/script.ts";

/** The columns that a document is found by, beside its id. */
const NAMED_COLUMNS = ["owner", "group", "alias", "artifact", "expires_at"] as const;

/**
 * Inserts or replaces a document; `expected` as in {@link Documents.put}.
 * @throws FormationError `conflict`, `invalid`
 */
export function* put(
  tx: Transaction,
  document: NewDocument,
  expected?: number,
): TransactionScript<StoredDocument> {
  const row = rowOf(tx, document);
  const { kind, id, alias } = row;
  const found = yield* first(
    tx.cached("document.any", { kind, id }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("documents")
          .select(["seq", "version", "created_at", ...NAMED_COLUMNS])
          .where("kind", "=", p.kind)
          .where("id", "=", p.id),
      ),
    ),
  );
  const before = found && (found.expires_at === null || found.expires_at > tx.now) ? found : undefined;
  if (expected !== undefined && expected !== (before?.version ?? 0)) {
    throw new FormationError("conflict", `The ${kind} has changed meanwhile.`, {
      remedy: "Read it again and repeat the call if it still makes sense.",
    });
  }
  if (alias !== null) yield* freeAlias(tx, kind, id, alias);
  if (before) {
    const version = before.version + 1;
    // A column that is written costs its index, whether or not it changes.
    const changed = NAMED_COLUMNS.filter((name) => row[name] !== before[name]);
    const set = {
      ...Object.fromEntries(changed.map((name) => [name, row[name]])),
      doc: row.doc,
      version,
      updated_at: tx.now,
    };
    yield* run(
      tx.cached(`document.replace ${changed}`, { ...set, _seq: before.seq }, (db, { _seq, ...p }) =>
        db.updateTable("documents").set(p).where("seq", "=", _seq),
      ),
    );
    return toDocument({ ...row, version, created_at: before.created_at });
  }
  if (found) yield* run(deleteBySeq(tx, found.seq));
  yield* run(tx.cached("document.add", row, (db, p) => db.insertInto("documents").values(p)));
  return toDocument(row);
}

/**
 * Removes an expired document with this alias.
 * @throws FormationError `conflict` if another document has it.
 */
function* freeAlias(tx: Transaction, kind: string, id: string, alias: string): TransactionScript<void> {
  const holder = yield* first(
    tx.cached("document.alias.holder", { kind, alias, id }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("documents")
          .select(["seq", "expires_at"])
          .where("kind", "=", p.kind)
          .where("alias", "=", p.alias)
          .where("id", "<>", p.id),
      ),
    ),
  );
  if (!holder) return;
  if (holder.expires_at === null || holder.expires_at > tx.now) {
    throw new FormationError("conflict", `There is another ${kind} of this name.`, {
      remedy: "Choose another name.",
    });
  }
  yield* run(deleteBySeq(tx, holder.seq));
}

function deleteBySeq(tx: Transaction, seq: number) {
  return tx.cached("document.drop", { seq }, (db, p) => db.deleteFrom("documents").where("seq", "=", p.seq));
}

/** The document with this id or alias, or null. */
export function* get(
  tx: Transaction,
  kind: string,
  name: string,
  column: "id" | "alias" = "id",
): TransactionScript<StoredDocument | null> {
  const row = yield* first(
    tx.cached(`document.${column}`, { kind, name, now: tx.now }, (db, p) =>
      db
        .selectFrom("documents")
        .selectAll()
        .where("kind", "=", p.kind)
        .where(column, "=", p.name)
        .where((eb) => alive(eb, p.now)),
    ),
  );
  return row ? toDocument(row) : null;
}

/** Removes a document and returns it, so that only one caller gets it; null if it is absent. */
export function* take(tx: Transaction, kind: string, id: string): TransactionScript<StoredDocument | null> {
  const [row] = yield* all(
    tx.cached("document.take", { kind, id, now: tx.now }, (db, p) =>
      db
        .deleteFrom("documents")
        .where("kind", "=", p.kind)
        .where("id", "=", p.id)
        .where((eb) => alive(eb, p.now))
        .returningAll(),
    ),
  );
  return row ? toDocument(row) : null;
}

/** Removes the documents of an owner or a group. @throws FormationError `invalid` without either. */
export function* removeAll(
  tx: Transaction,
  where: Parameters<Documents["removeAll"]>[0],
): TransactionScript<number> {
  const { kinds, owner, group } = where;
  if (owner === undefined && group === undefined) {
    throw new FormationError("invalid", "Documents are removed by their owner or their group.", {
      remedy: "Give an owner, a group, or both.",
    });
  }
  if (kinds?.length === 0) return 0;
  const key = `document.removeAll ${kinds?.length} ${owner !== undefined} ${group !== undefined}`;
  const params = {
    ...numberedParams("kind", kinds ?? []),
    owner: owner ?? "",
    group: group ?? "",
    now: tx.now,
  };
  return yield* run(
    tx.cached(key, params, (db, p) => {
      let remove = db.deleteFrom("documents").where((eb) => alive(eb, p.now));
      if (owner !== undefined) remove = remove.where("owner", "=", p.owner);
      if (group !== undefined) remove = remove.where("group", "=", p.group);
      return kinds ? remove.where("kind", "in", numberedValues(p, "kind", kinds.length)) : remove;
    }),
  );
}

export function* list(
  tx: Transaction,
  query: Parameters<Documents["list"]>[0],
): TransactionScript<Page<StoredDocument>> {
  const { kind, owner, group } = query;
  return yield* page<DocumentRow, StoredDocument>(query, "doc", toDocument, (limit, before) => [
    tx.cached(
      `document.list ${owner !== undefined} ${group !== undefined}`,
      { kind, owner: owner ?? "", group: group ?? "", now: tx.now, limit, before },
      (db, p) => {
        let select = db
          .selectFrom("documents")
          .selectAll()
          .where("kind", "=", p.kind)
          .where("seq", "<", p.before)
          .where((eb) => alive(eb, p.now));
        if (owner !== undefined) select = select.where("owner", "=", p.owner);
        if (group !== undefined) select = select.where("group", "=", p.group);
        return select.orderBy("seq", "desc").limit(limitParam(p.limit));
      },
    ),
  ]);
}

/** The digests of the artifacts that documents name. */
export function* documentArtifacts(tx: Transaction): TransactionScript<string[]> {
  const rows = yield* all(
    tx.cached("document.artifacts", { now: tx.now }, (db, p) =>
      db
        .selectFrom(tx.seesPrivate ? "documents" : ("document_artifacts" as "documents"))
        .select("artifact")
        .distinct()
        .where("artifact", "is not", null)
        .where((eb) => alive(eb, p.now))
        .$narrowType<{ artifact: string }>(),
    ),
  );
  return rows.map((row) => row.artifact);
}

/** An expired document is absent, even before the sweep removes it. */
function alive(eb: ExpressionBuilder<Tables, "documents">, now: number) {
  return eb.or([eb("expires_at", "is", null), eb("expires_at", ">", now)]);
}

function rowOf(tx: Transaction, document: NewDocument): Omit<DocumentRow, "seq"> {
  const { kind, id, owner = null, group = null, alias = null, artifact = null } = document;
  const { expires_at = null } = document;
  const doc: string | undefined = JSON.stringify(document.doc);
  if (doc === undefined) throw new FormationError("invalid", `The ${kind} has nothing that JSON can hold.`);
  // NaN would be stored as null, and null means that the document never expires.
  if (expires_at !== null && !Number.isSafeInteger(expires_at)) {
    throw new FormationError("invalid", `The ${kind} would expire at no whole number of milliseconds.`, {
      field: "expires_at",
    });
  }
  const times = { created_at: tx.now, updated_at: tx.now, expires_at };
  return { kind, id, owner, group, alias, artifact, doc, version: 1, ...times };
}

function toDocument(row: Omit<DocumentRow, "seq">): StoredDocument {
  const { kind, id, owner, group, alias, artifact, doc, version, created_at, updated_at, expires_at } = row;
  const names = { kind, id, owner, group, alias, artifact };
  return { ...names, doc: JSON.parse(doc), version, created_at, updated_at, expires_at };
}
