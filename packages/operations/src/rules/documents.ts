// Documents: how they are found, compared, given to one taker, and treated as gone once their time is over.

import {
  type Documents,
  FormationError,
  type NewDocument,
  type StoredDocument,
} from "@formation-mcp/contract";
import type { ExpressionBuilder } from "kysely";
import type { Page } from "../port.ts";
import type { DocumentRow, Tables } from "../sql/schema.ts";
import { all, atMost, count, first, numbered, type Query, type Script, values } from "../sql/script.ts";
import { page } from "./listing.ts";

/** What a document is found by, beside its id. */
const NAMED = ["owner", "group", "alias", "artifact", "expires_at"] as const;

/** `expected` as in {@link Documents.put}. */
export function* put(q: Query, document: NewDocument, expected?: number): Script<StoredDocument> {
  const row = rowOf(q, document);
  const { kind, id, alias } = row;
  const found = yield* first(
    q.cached("document.any", { kind, id }, (db, p) =>
      q.locks.wait(
        db
          .selectFrom("documents")
          .select(["seq", "version", "created_at", ...NAMED])
          .where("kind", "=", p.kind)
          .where("id", "=", p.id),
      ),
    ),
  );
  const before = found && (found.expires_at === null || found.expires_at > q.now) ? found : undefined;
  if (expected !== undefined && expected !== (before?.version ?? 0)) {
    throw new FormationError("conflict", `The ${kind} has changed meanwhile.`, {
      remedy: "Read it again and repeat the call if it still makes sense.",
    });
  }
  if (alias !== null) yield* freeAlias(q, kind, id, alias);
  if (before) {
    const version = before.version + 1;
    // Each column that is written costs its index, changed or not.
    const changed = NAMED.filter((name) => row[name] !== before[name]);
    const set = {
      ...Object.fromEntries(changed.map((name) => [name, row[name]])),
      doc: row.doc,
      version,
      updated_at: q.now,
    };
    yield* count(
      q.cached(`document.replace ${changed}`, { ...set, _seq: before.seq }, (db, { _seq, ...p }) =>
        db.updateTable("documents").set(p).where("seq", "=", _seq),
      ),
    );
    return toDocument({ ...row, version, created_at: before.created_at });
  }
  if (found) yield* count(bySeq(q, found.seq));
  yield* count(q.cached("document.add", row, (db, p) => db.insertInto("documents").values(p)));
  return toDocument(row);
}

/** Removes an expired document of this alias. @throws FormationError `conflict` if another has it. */
function* freeAlias(q: Query, kind: string, id: string, alias: string): Script<void> {
  const holder = yield* first(
    q.cached("document.alias.holder", { kind, alias, id }, (db, p) =>
      q.locks.wait(
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
  if (holder.expires_at === null || holder.expires_at > q.now) {
    throw new FormationError("conflict", `There is another ${kind} of this name.`, {
      remedy: "Choose another name.",
    });
  }
  yield* count(bySeq(q, holder.seq));
}

function bySeq(q: Query, seq: number) {
  return q.cached("document.drop", { seq }, (db, p) => db.deleteFrom("documents").where("seq", "=", p.seq));
}

/** By id or by alias. */
export function* get(
  q: Query,
  kind: string,
  name: string,
  column: "id" | "alias" = "id",
): Script<StoredDocument | null> {
  const row = yield* first(
    q.cached(`document.${column}`, { kind, name, now: q.now }, (db, p) =>
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

export function* take(q: Query, kind: string, id: string): Script<StoredDocument | null> {
  const [row] = yield* all(
    q.cached("document.take", { kind, id, now: q.now }, (db, p) =>
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

export function* removeAll(q: Query, where: Parameters<Documents["removeAll"]>[0]): Script<number> {
  const { kinds, owner, group } = where;
  if (owner === undefined && group === undefined) {
    throw new FormationError("invalid", "Documents are removed by their owner or their group.", {
      remedy: "Give an owner, a group, or both.",
    });
  }
  if (kinds?.length === 0) return 0;
  const key = `document.removeAll ${kinds?.length} ${owner !== undefined} ${group !== undefined}`;
  const params = { ...numbered("kind", kinds ?? []), owner: owner ?? "", group: group ?? "", now: q.now };
  return yield* count(
    q.cached(key, params, (db, p) => {
      let remove = db.deleteFrom("documents").where((eb) => alive(eb, p.now));
      if (owner !== undefined) remove = remove.where("owner", "=", p.owner);
      if (group !== undefined) remove = remove.where("group", "=", p.group);
      return kinds ? remove.where("kind", "in", values(p, "kind", kinds.length)) : remove;
    }),
  );
}

export function* list(q: Query, query: Parameters<Documents["list"]>[0]): Script<Page<StoredDocument>> {
  const { kind, owner, group } = query;
  return yield* page<DocumentRow, StoredDocument>(query, "doc", toDocument, (limit, before) => [
    q.cached(
      `document.list ${owner !== undefined} ${group !== undefined}`,
      { kind, owner: owner ?? "", group: group ?? "", now: q.now, limit, before },
      (db, p) => {
        let select = db
          .selectFrom("documents")
          .selectAll()
          .where("kind", "=", p.kind)
          .where("seq", "<", p.before)
          .where((eb) => alive(eb, p.now));
        if (owner !== undefined) select = select.where("owner", "=", p.owner);
        if (group !== undefined) select = select.where("group", "=", p.group);
        return select.orderBy("seq", "desc").limit(atMost(p.limit));
      },
    ),
  ]);
}

export function* documentArtifacts(q: Query): Script<string[]> {
  const rows = yield* all(
    q.cached("document.artifacts", { now: q.now }, (db, p) =>
      db
        .selectFrom(q.whole ? "documents" : ("document_artifacts" as "documents"))
        .select("artifact")
        .distinct()
        .where("artifact", "is not", null)
        .where((eb) => alive(eb, p.now))
        .$narrowType<{ artifact: string }>(),
    ),
  );
  return rows.map((row) => row.artifact);
}

/** What is expired is absent, whether or not the sweep came by. */
function alive(eb: ExpressionBuilder<Tables, "documents">, now: number) {
  return eb.or([eb("expires_at", "is", null), eb("expires_at", ">", now)]);
}

function rowOf(q: Query, document: NewDocument): Omit<DocumentRow, "seq"> {
  const { kind, id, owner = null, group = null, alias = null, artifact = null } = document;
  const { expires_at = null } = document;
  const doc: string | undefined = JSON.stringify(document.doc);
  if (doc === undefined) throw new FormationError("invalid", `The ${kind} has nothing that JSON can hold.`);
  // A time that is no number would be stored as null, and what is null never expires.
  if (expires_at !== null && !Number.isSafeInteger(expires_at)) {
    throw new FormationError("invalid", `The ${kind} would expire at no whole number of milliseconds.`, {
      field: "expires_at",
    });
  }
  const times = { created_at: q.now, updated_at: q.now, expires_at };
  return { kind, id, owner, group, alias, artifact, doc, version: 1, ...times };
}

function toDocument(row: Omit<DocumentRow, "seq">): StoredDocument {
  const { kind, id, owner, group, alias, artifact, doc, version, created_at, updated_at, expires_at } = row;
  const names = { kind, id, owner, group, alias, artifact };
  return { ...names, doc: JSON.parse(doc), version, created_at, updated_at, expires_at };
}
