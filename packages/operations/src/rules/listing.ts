// The lists of records, newest first in the order of insertion. Every filter has an index that ends in that
// order, so that a page costs the same in a large database. For the same reason several states are read one
// by one and merged.

import type { Build, Deployment, Id, Instance, Operation } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { Page, Store } from "../port.ts";
import { filterOnly, page } from "../sql/pages.ts";
import { toBuild, toDeployment, toInstance, toOperation } from "../sql/rows.ts";
import { PLAIN_INSTANCE } from "../sql/schema.ts";
import {
  limitParam,
  numberedParams,
  numberedValues,
  type Transaction,
  type TransactionScript,
} from "../sql/script.ts";

type QueryOf<M extends "operations" | "builds" | "deployments" | "instances"> = Parameters<Store[M]>[0];

export function* operations(
  tx: Transaction,
  query: QueryOf<"operations">,
): TransactionScript<Page<Operation>> {
  const { owner, target, states } = query;
  const by = target === undefined ? [null] : (["serial_key", "target_id"] as const);
  return yield* page(query, "op", toOperation, (limit, before) =>
    by.flatMap((column) =>
      each(states).map((state) =>
        tx.cached(
          `operations.list ${column} ${owner !== null} ${state !== null}`,
          { owner: owner ?? "", state: state ?? "queued", target: target ?? "", limit, before },
          (db, p) => {
            let select = db.selectFrom("operations").selectAll().where("seq", "<", p.before);
            if (column !== null) {
              select = select.where(column, "=", p.target as never);
              if (column === "target_id") select = select.whereRef("target_id", "<>", "serial_key");
            }
            if (owner !== null) select = select.where(plannable(column === null, "owner"), "=", p.owner);
            if (state !== null)
              select = select.where(plannable(column === null, "state"), "=", opaque(p.state));
            return select.orderBy("seq", "desc").limit(limitParam(p.limit));
          },
        ),
      ),
    ),
  );
}

export function* builds(tx: Transaction, query: QueryOf<"builds">): TransactionScript<Page<Build>> {
  const { owner, name, states } = query;
  return yield* page(query, "bld", toBuild, (limit, before) =>
    each(states).map((state) =>
      tx.cached(
        `builds.list ${owner !== null} ${name !== undefined} ${state !== null}`,
        { owner: owner ?? "", name: name ?? "", state: state ?? "queued", limit, before },
        (db, p) => {
          let select = db.selectFrom("builds").selectAll().where("seq", "<", p.before);
          if (owner !== null) select = select.where("owner", "=", p.owner);
          if (name !== undefined) select = select.where("name", "=", p.name);
          if (state !== null)
            select = select.where(plannable(name === undefined, "state"), "=", opaque(p.state));
          return select.orderBy("seq", "desc").limit(limitParam(p.limit));
        },
      ),
    ),
  );
}

export function* deployments(
  tx: Transaction,
  query: QueryOf<"deployments">,
): TransactionScript<Page<Deployment>> {
  const { owner, instance_id, build_id } = query;
  return yield* page(query, "dep", toDeployment, (limit, before) => [
    tx.cached(
      `deployments.list ${owner !== null} ${instance_id !== undefined} ${build_id !== undefined}`,
      { owner: owner ?? "", instance: instance_id ?? "", build: build_id ?? "", limit, before },
      (db, p) => {
        let select = db.selectFrom("deployments").selectAll().where("seq", "<", p.before);
        const narrow = instance_id !== undefined || build_id !== undefined;
        if (instance_id !== undefined) select = select.where("instance_id", "=", p.instance as never);
        if (build_id !== undefined) {
          select = select.where(plannable(instance_id === undefined, "build_id"), "=", p.build);
        }
        if (owner !== null) select = select.where(plannable(!narrow, "owner"), "=", p.owner);
        return select.orderBy("seq", "desc").limit(limitParam(p.limit));
      },
    ),
  ]);
}

const COLUMNS = PLAIN_INSTANCE.map((column) => `i.${column}` as const);

export function* instances(tx: Transaction, query: QueryOf<"instances">): TransactionScript<Page<Instance>> {
  const { owner, states, node_id } = query;
  const pairs = Object.entries(query.metadata ?? {});
  const given = {
    ...numberedParams(
      "key",
      pairs.map(([key]) => key),
    ),
    ...numberedParams(
      "value",
      pairs.map(([, value]) => value),
    ),
    owner: owner ?? "",
    node: node_id ?? "",
  };
  return yield* page(query, "vm", toInstance, (limit, before) =>
    each(states).map((state) =>
      tx.cached(
        `instances.list ${owner !== null} ${state !== null} ${node_id !== undefined} ${pairs.length}`,
        { ...given, state: state ?? "creating", limit, before },
        (db, p) => {
          const keys = numberedValues(p, "key", pairs.length);
          const wanted = numberedValues(p, "value", pairs.length);
          let select = db.selectFrom("instances as i").select(COLUMNS);
          if (state === null) select = select.where("i.state", "<>", sql.lit("deleted" as const));
          if (pairs.length > 0) {
            // The first pair drives the query: its index ends in the order of the page.
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
            if (node_id !== undefined) driven = driven.where(plannable(false, "i.node_id"), "=", p.node);
            if (state !== null) driven = driven.where(plannable(false, "i.state"), "=", opaque(p.state));
            return driven.orderBy("m.instance_seq", "desc").limit(limitParam(p.limit));
          }
          const wide = node_id === undefined;
          if (!wide) select = select.where("i.node_id", "=", p.node as Id<"node">);
          if (owner !== null) select = select.where(plannable(wide, "i.owner"), "=", p.owner);
          if (state !== null) select = select.where(plannable(wide, "i.state"), "=", opaque(p.state));
          return select.where("i.seq", "<", p.before).orderBy("i.seq", "desc").limit(limitParam(p.limit));
        },
      ),
    ),
  );
}

/** The states to read one by one; null stands for all of them. */
function each<S>(states: S[] | undefined): (S | null)[] {
  return states ? [...new Set(states)] : [null];
}

/**
 * A column that the planner may look up in an index, or one that only filters the rows which another index
 * found.
 */
function plannable(indexed: boolean, column: string) {
  return indexed ? sql<string>`${sql.ref(column)}` : filterOnly(column);
}

/**
 * A parameter whose value the planner ignores. Otherwise SQLite, which compares it with the condition of a
 * partial index, prepares the statement again for each value.
 */
function opaque(state: string) {
  return sql<string>`(${state} || '')`;
}
