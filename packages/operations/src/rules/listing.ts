// Pages: newest first, by the order of writing, each through an index that ends in that order, so that a page costs the
// same in a large database. Several states are read one by one and merged for the same reason.

import {
  type Build,
  type Deployment,
  FormationError,
  type Id,
  type Instance,
  type Operation,
} from "@formation-mcp/contract";
import { type Compilable, sql } from "kysely";
import type { Page, Store } from "../port.ts";
import { toBuild, toDeployment, toInstance, toOperation } from "../sql/rows.ts";
import { PLAIN_INSTANCE } from "../sql/schema.ts";
import { all, atMost, numbered, type Query, type Script, values } from "../sql/script.ts";

const MAX_LIMIT = 1000;

type QueryOf<M extends "operations" | "builds" | "deployments" | "instances"> = Parameters<Store[M]>[0];

export function* operations(q: Query, query: QueryOf<"operations">): Script<Page<Operation>> {
  const { owner, target, states } = query;
  const by = target === undefined ? [null] : (["serial_key", "target_id"] as const);
  return yield* page(query, "op", toOperation, (limit, before) =>
    by.flatMap((column) =>
      each(states).map((state) =>
        q.cached(
          `operations.list ${column} ${owner !== null} ${state !== null}`,
          { owner: owner ?? "", state: state ?? "queued", target: target ?? "", limit, before },
          (db, p) => {
            let select = db.selectFrom("operations").selectAll().where("seq", "<", p.before);
            if (column !== null) {
              select = select.where(column, "=", p.target as never);
              if (column === "target_id") select = select.whereRef("target_id", "<>", "serial_key");
            }
            if (owner !== null) select = select.where(plain(column === null, "owner"), "=", p.owner);
            if (state !== null) select = select.where(plain(column === null, "state"), "=", unseen(p.state));
            return select.orderBy("seq", "desc").limit(atMost(p.limit));
          },
        ),
      ),
    ),
  );
}

export function* builds(q: Query, query: QueryOf<"builds">): Script<Page<Build>> {
  const { owner, name, states } = query;
  return yield* page(query, "bld", toBuild, (limit, before) =>
    each(states).map((state) =>
      q.cached(
        `builds.list ${owner !== null} ${name !== undefined} ${state !== null}`,
        { owner: owner ?? "", name: name ?? "", state: state ?? "queued", limit, before },
        (db, p) => {
          let select = db.selectFrom("builds").selectAll().where("seq", "<", p.before);
          if (owner !== null) select = select.where("owner", "=", p.owner);
          if (name !== undefined) select = select.where("name", "=", p.name);
          if (state !== null) select = select.where(plain(name === undefined, "state"), "=", unseen(p.state));
          return select.orderBy("seq", "desc").limit(atMost(p.limit));
        },
      ),
    ),
  );
}

export function* deployments(q: Query, query: QueryOf<"deployments">): Script<Page<Deployment>> {
  const { owner, instance_id, build_id } = query;
  return yield* page(query, "dep", toDeployment, (limit, before) => [
    q.cached(
      `deployments.list ${owner !== null} ${instance_id !== undefined} ${build_id !== undefined}`,
      { owner: owner ?? "", instance: instance_id ?? "", build: build_id ?? "", limit, before },
      (db, p) => {
        let select = db.selectFrom("deployments").selectAll().where("seq", "<", p.before);
        const narrow = instance_id !== undefined || build_id !== undefined;
        if (instance_id !== undefined) select = select.where("instance_id", "=", p.instance as never);
        if (build_id !== undefined) {
          select = select.where(plain(instance_id === undefined, "build_id"), "=", p.build);
        }
        if (owner !== null) select = select.where(plain(!narrow, "owner"), "=", p.owner);
        return select.orderBy("seq", "desc").limit(atMost(p.limit));
      },
    ),
  ]);
}

const COLUMNS = PLAIN_INSTANCE.map((column) => `i.${column}` as const);

export function* instances(q: Query, query: QueryOf<"instances">): Script<Page<Instance>> {
  const { owner, states, node_id } = query;
  const pairs = Object.entries(query.metadata ?? {});
  const given = {
    ...numbered(
      "key",
      pairs.map(([key]) => key),
    ),
    ...numbered(
      "value",
      pairs.map(([, value]) => value),
    ),
    owner: owner ?? "",
    node: node_id ?? "",
  };
  return yield* page(query, "vm", toInstance, (limit, before) =>
    each(states).map((state) =>
      q.cached(
        `instances.list ${owner !== null} ${state !== null} ${node_id !== undefined} ${pairs.length}`,
        { ...given, state: state ?? "creating", limit, before },
        (db, p) => {
          const keys = values(p, "key", pairs.length);
          const wanted = values(p, "value", pairs.length);
          let select = db.selectFrom("instances as i").select(COLUMNS);
          if (state === null) select = select.where("i.state", "<>", sql.lit("deleted" as const));
          if (pairs.length > 0) {
            // The first pair drives: its index ends in the order of the page.
            const [key = "", value = ""] = [keys[0], wanted[0]];
            let driven = select
              .innerJoin("instance_metadata as m", "m.instance_seq", "i.seq")
              .where("m.key", "=", key)
              .where("m.value", "=", value)
              .where("m.instance_seq", "<", p.before);
            if (owner !== null) driven = driven.where("m.owner", "=", p.owner);
            for (let n = 1; n < pairs.length; n++) {
              driven = driven.where(({ exists, selectFrom }) =>
                exists(
                  selectFrom("instance_metadata as also")
                    .select("also.instance_seq")
                    .where("also.key", "=", keys[n] ?? "")
                    .where("also.value", "=", wanted[n] ?? "")
                    .whereRef("also.owner", "=", "m.owner")
                    .whereRef("also.instance_seq", "=", "m.instance_seq"),
                ),
              );
            }
            if (node_id !== undefined) driven = driven.where(plain(false, "i.node_id"), "=", p.node);
            if (state !== null) driven = driven.where(plain(false, "i.state"), "=", unseen(p.state));
            return driven.orderBy("m.instance_seq", "desc").limit(atMost(p.limit));
          }
          const wide = node_id === undefined;
          if (!wide) select = select.where("i.node_id", "=", p.node as Id<"node">);
          if (owner !== null) select = select.where(plain(wide, "i.owner"), "=", p.owner);
          if (state !== null) select = select.where(plain(wide, "i.state"), "=", unseen(p.state));
          return select.where("i.seq", "<", p.before).orderBy("i.seq", "desc").limit(atMost(p.limit));
        },
      ),
    ),
  );
}

/** A column as the planner may use it, or wrapped so that it only filters what a better index found. */
function plain(indexed: boolean, column: string) {
  return indexed ? sql<string>`${sql.ref(column)}` : sql<string>`(${sql.ref(column)} || '')`;
}

/**
 * A parameter that the planner does not look at: SQLite prepares a statement anew for each value of one that it compared
 * with the condition of a partial index.
 */
function unseen(state: string) {
  return sql<string>`(${state} || '')`;
}

function each<S>(states: S[] | undefined): (S | null)[] {
  return states ? [...new Set(states)] : [null];
}

/** Reads a page from one or more queries in the order of `seq`; `kind` marks its cursors. */
export function* page<R extends { seq: number }, T>(
  query: { limit: number; cursor?: string | null },
  kind: string,
  toRecord: (row: R) => T,
  branches: (limit: number, before: number) => Compilable<R>[],
): Script<Page<T>> {
  const limit = clamped(query.limit);
  const [before = 0] = readCursor(kind, query.cursor, [Number.MAX_SAFE_INTEGER]);
  const found: R[] = [];
  for (const branch of branches(limit + 1, before)) found.push(...(yield* all(branch)));
  const rows = found.sort((a, b) => b.seq - a.seq).slice(0, limit);
  const last = rows.at(-1);
  return {
    items: rows.map(toRecord),
    cursor: last && found.length > limit ? cursorOf(kind, last.seq) : null,
  };
}

/** How many rows a page has: what was asked for, within reason. */
export function clamped(limit: number): number {
  return Math.min(Math.max(Math.trunc(limit) || 1, 1), MAX_LIMIT);
}

export function cursorOf(kind: string, ...place: number[]): string {
  return Buffer.from([kind, ...place].join(".")).toString("base64url");
}

/** The place that a cursor names; without one, `start`. @throws FormationError `invalid` for a foreign cursor. */
export function readCursor(
  kind: string,
  cursor: string | null | undefined,
  start: readonly number[],
): readonly number[] {
  if (cursor === null || cursor === undefined) return start;
  const [of, ...place] = Buffer.from(cursor.slice(0, 100), "base64url").toString().split(".");
  const known = of === kind && place.length === start.length && place.every((n) => /^\d{1,15}$/.test(n));
  if (known) return place.map(Number);
  throw new FormationError("invalid", "The cursor is not one that this list returned.", {
    remedy: "Give the cursor of the page before, or none for the first page.",
    field: "cursor",
  });
}
