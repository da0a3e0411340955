// The records of nodes, and the resources that are in use on each.

import { FormationError, type Id, INSTANCE_HOLDINGS, type NodeRecord } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { NodeUse, Store } from "../port.ts";
import { notFound, toNode } from "../sql/rows.ts";
import { all, first, type Transaction, type TransactionScript } from "../sql/script.ts";

/** Inserts or updates a node as `Store.registerNode` describes. */
export function* registerNode(
  tx: Transaction,
  node: Parameters<Store["registerNode"]>[0],
): TransactionScript<NodeRecord> {
  const set = {
    name: node.name,
    labels: JSON.stringify(node.labels),
    capacity: JSON.stringify(node.capacity),
    engine: JSON.stringify(node.engine),
    heartbeat_at: tx.now,
    pid: node.pid,
    program: node.program,
    draining: node.draining ? 1 : 0,
    updated_at: tx.now,
  };
  const [row] = yield* all(
    tx.cached("nodes.write", { id: node.id, ...set, created_at: tx.now, one: 1 }, (db, { one, ...p }) => {
      const { id: _, created_at: __, ...changed } = p;
      return db
        .insertInto("nodes")
        .values({ ...p, version: one })
        .onConflict((conflict) =>
          conflict
            .column("id")
            .doUpdateSet((eb) => ({ ...changed, removed_at: null, version: eb("nodes.version", "+", 1) })),
        )
        .returningAll();
    }),
  );
  if (!row) throw new FormationError("internal", "The node was not written.");
  return toNode(row);
}

/** All nodes that were not removed. */
export function* nodes(tx: Transaction): TransactionScript<NodeRecord[]> {
  const rows = yield* all(
    tx.cached("nodes", {}, (db) =>
      db.selectFrom("nodes").selectAll().where("removed_at", "is", null).orderBy("id"),
    ),
  );
  return rows.map(toNode);
}

/** One node that was not removed, or null. */
export function* node(tx: Transaction, id: Id<"node">): TransactionScript<NodeRecord | null> {
  const row = yield* first(
    tx.cached("nodes.one", { id }, (db, p) =>
      db.selectFrom("nodes").selectAll().where("id", "=", p.id).where("removed_at", "is", null),
    ),
  );
  return row ? toNode(row) : null;
}

/** Writes an admin's cordon and drain. @throws FormationError `not_found` */
export function* setNodeScheduling(
  tx: Transaction,
  id: Id<"node">,
  { cordoned, drain }: Pick<NodeRecord, "cordoned" | "drain">,
): TransactionScript<NodeRecord> {
  const set = { cordoned: cordoned ? 1 : 0, drain, updated_at: tx.now };
  const [row] = yield* all(
    tx.cached("nodes.steer", { ...set, _id: id }, (db, { _id, ...p }) =>
      db
        .updateTable("nodes")
        .set((eb) => ({ ...p, version: eb("version", "+", 1) }))
        .where("id", "=", _id)
        .where("removed_at", "is", null)
        .returningAll(),
    ),
  );
  if (!row) throw notFound("node", id);
  return toNode(row);
}

/** The resources in use on each node, by the contract's INSTANCE_HOLDINGS. */
export function* nodeUse(tx: Transaction): TransactionScript<NodeUse[]> {
  const rows = yield* all(
    tx.cached("nodes.use", {}, (db) =>
      db
        .selectFrom("instances")
        .select((eb) => [
          "node_id",
          "state",
          eb.fn.countAll<number>().as("instances"),
          ...(["vcpus", "memory_mb", "disk_gb"] as const).map((what) =>
            eb.fn.sum<number | null>(what).as(what),
          ),
        ])
        .where("node_id", "is not", null)
        .where("machine_id", "is not", null)
        .where(sql`(state || '')`, "<>", "deleted")
        .groupBy(["node_id", "state"]),
    ),
  );
  const uses = new Map<string, NodeUse>();
  for (const { node_id, state, ...sum } of rows) {
    if (node_id === null) continue;
    const use = uses.get(node_id) ?? { node_id, instances: 0, vcpus: 0, memory_mb: 0, disk_gb: 0 };
    const holds = INSTANCE_HOLDINGS[state];
    use.instances += Number(sum.instances);
    if (holds.disk) use.disk_gb += Number(sum.disk_gb);
    if (holds.compute) {
      use.vcpus += Number(sum.vcpus);
      use.memory_mb += Number(sum.memory_mb);
    }
    uses.set(node_id, use);
  }
  return [...uses.values()];
}
