// What happens to nodes, and to what is on them when they fall silent or are removed.

import {
  type ErrorRecord,
  FormationError,
  type Id,
  INSTANCE_HOLDINGS,
  type Instance,
  LIMITS,
  LOSABLE_STATES,
  type NodeRecord,
} from "@formation-mcp/contract";
import { sql } from "kysely";
import type { NodeRemoval, NodeUse, Store } from "../port.ts";
import { notFound, toInstance, toNode, toOperation } from "../sql/rows.ts";
import type { InstanceRow, NodeRow, OperationRow } from "../sql/schema.ts";
import { all, first, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { CANCELLED } from "./cancel.ts";
import { instanceRow, patchDeployment, patchInstance } from "./records.ts";
import { end, giveBack } from "./transitions.ts";

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

export function* nodes(tx: Transaction): TransactionScript<NodeRecord[]> {
  const rows = yield* all(
    tx.cached("nodes", {}, (db) =>
      db.selectFrom("nodes").selectAll().where("removed_at", "is", null).orderBy("id"),
    ),
  );
  return rows.map(toNode);
}

export function* node(tx: Transaction, id: Id<"node">): TransactionScript<NodeRecord | null> {
  const row = yield* first(
    tx.cached("nodes.one", { id }, (db, p) =>
      db.selectFrom("nodes").selectAll().where("id", "=", p.id).where("removed_at", "is", null),
    ),
  );
  return row ? toNode(row) : null;
}

export function* steerNode(
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

export function* markLost(tx: Transaction, silentMs: number): TransactionScript<Instance[]> {
  const silent = yield* all(
    tx.cached("nodes.silent", { before: tx.now - silentMs }, (db, p) =>
      db
        .selectFrom("nodes")
        .select(["id", "heartbeat_at"])
        .where("removed_at", "is", null)
        .where("heartbeat_at", "<=", p.before),
    ),
  );
  const lost: Instance[] = [];
  for (const node of silent) {
    for (const row of yield* tellable(tx, node.id)) {
      yield* patchInstance(tx, row, { state: "lost", error: silence(node.heartbeat_at) });
      lost.push(toInstance(yield* instanceRow(tx, null, row.id)));
    }
  }
  return lost;
}

function* tellable(tx: Transaction, node: Id<"node">): TransactionScript<InstanceRow[]> {
  return yield* all(
    tx.cached("nodes.tellable", { node }, (db, p) =>
      tx.locks.skipLocked(
        db
          .selectFrom("instances as i")
          .selectAll("i")
          .where("i.node_id", "=", p.node)
          .where("i.machine_id", "is not", null)
          .where(
            "i.state",
            "in",
            LOSABLE_STATES.map((state) => sql.lit(state)),
          )
          .where(({ not, exists, selectFrom }) =>
            not(
              exists(
                selectFrom("operations as o")
                  .select("o.seq")
                  .whereRef("o.serial_key", "=", "i.id")
                  .where("o.ended_at", "is", null)
                  .where("o.state", "=", sql.lit("running" as const)),
              ),
            ),
          ),
        "i",
      ),
    ),
  );
}

function silence(since: number): ErrorRecord {
  return {
    code: "unavailable",
    message: `Its node has not been heard of since ${new Date(since).toISOString()}.`,
    remedy:
      "It comes back by itself when its node does. If that never will, an admin removes the node with force: then ship its build to this name with replace: true. Or delete it.",
    step: "run",
  };
}

export function* removeNode(
  tx: Transaction,
  id: Id<"node">,
  { force }: { force: boolean },
): TransactionScript<NodeRemoval> {
  const node = yield* first(
    tx.cached("node", { id }, (db, p) =>
      tx.locks.forUpdate(
        db.selectFrom("nodes").selectAll().where("id", "=", p.id).where("removed_at", "is", null),
      ),
    ),
  );
  if (!node) throw notFound("node", id);
  const operations = yield* operationsOn(tx, id);
  const instances = yield* instancesOn(tx, id);
  if (!force) refuseInUse(node, instances, operations);
  const error = removed(node);
  const removal: NodeRemoval = { instances: [], operations: [] };
  for (const { id: vm } of instances) {
    const row = yield* instanceRow(tx, null, vm);
    yield* giveUp(tx, row, error);
    removal.instances.push(toInstance(yield* instanceRow(tx, null, vm)));
  }
  for (const row of operations) removal.operations.push(toOperation(yield* letGo(tx, row, id, error)));
  // Should its worker live on, it is given nothing until an admin says so.
  const set = { removed_at: tx.now, updated_at: tx.now, cordoned: 1, drain: null };
  yield* run(
    tx.cached("nodes.remove", { ...set, _id: id }, (db, { _id, ...p }) =>
      db.updateTable("nodes").set(p).where("id", "=", _id),
    ),
  );
  return removal;
}

function* instancesOn(tx: Transaction, node: Id<"node">): TransactionScript<InstanceRow[]> {
  return yield* all(
    tx.cached("nodes.instances", { node }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("instances")
          .selectAll()
          .where("node_id", "=", p.node)
          .where(sql`(state || '')`, "<>", "deleted"),
      ),
    ),
  );
}

/** Unfinished operations that this node runs, or that nobody else may take. */
function* operationsOn(tx: Transaction, node: Id<"node">): TransactionScript<OperationRow[]> {
  const pinned = yield* all(
    tx.cached("nodes.pinned", { node }, (db, p) =>
      tx.locks.forUpdate(
        db.selectFrom("operations").selectAll().where("node_id", "=", p.node).where("ended_at", "is", null),
      ),
    ),
  );
  const running = yield* all(
    tx.cached("nodes.running", { node }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("operations")
          .selectAll()
          .where("state", "=", sql.lit("running" as const))
          .where("claimed_by", "=", p.node),
      ),
    ),
  );
  return [...new Map([...pinned, ...running].map((row) => [row.seq, row])).values()];
}

function refuseInUse(node: NodeRow, instances: InstanceRow[], operations: OperationRow[]): void {
  const machines = instances.filter((instance) => instance.machine_id !== null).length;
  if (machines === 0 && operations.length === 0) return;
  throw new FormationError(
    "conflict",
    `The node ${node.name} is in use: ${machines} instances, ${operations.length} unfinished operations.`,
    {
      remedy:
        "Drain it first. With force what is on it is given up: its instances are failed and their disks lost.",
    },
  );
}

function removed(node: NodeRow): ErrorRecord {
  return {
    code: "unavailable",
    message: `Its node ${node.name} was removed by an operator, and what was on it is given up.`,
    remedy: "Ship a build to this name again with replace: true, or delete it.",
    step: "run",
  };
}

/** Nothing of it is counted on any more; should its node come back, it finds no record of the machine and removes it. */
function* giveUp(tx: Transaction, row: InstanceRow, error: ErrorRecord): TransactionScript<void> {
  const nothing = { node_id: null, machine_id: null, observed: null };
  // What was never there is its operation's to make, on this node or another.
  const unmade = row.machine_id === null && (row.state === "creating" || row.state === "starting");
  if (unmade && row.desired !== "deleted") return yield* patchInstance(tx, row, { node_id: null });
  if (row.desired !== "deleted") {
    const keeps = row.machine_id === null && row.error !== null;
    yield* patchInstance(tx, row, { ...nothing, state: "failed", ...(keeps ? {} : { error }) });
    return;
  }
  const live = yield* all(
    tx.cached("nodes.live", { id: row.id }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("deployments")
          .selectAll()
          .where("instance_id", "=", p.id)
          .where("state", "=", sql.lit("live" as const)),
      ),
    ),
  );
  for (const deployment of live) {
    yield* patchDeployment(tx, deployment, { state: "superseded", ended_at: tx.now });
  }
  yield* patchInstance(tx, row, { ...nothing, state: "deleted", error: null });
}

function* letGo(
  tx: Transaction,
  row: OperationRow,
  node: Id<"node">,
  error: ErrorRecord,
): TransactionScript<OperationRow> {
  const { kind } = JSON.parse(row.input) as { kind: string };
  if (kind === "delete") return yield* end(tx, row, { state: "completed" });
  if (row.cancel_requested_at !== null) return yield* end(tx, row, { state: "cancelled", error: CANCELLED });
  if (row.node_id === node || row.attempt >= LIMITS.attempts)
    return yield* end(tx, row, { state: "failed", error });
  // Its worker may live: another attempt begins only when this one has ended itself.
  return yield* giveBack(tx, row, row.lease_until ?? tx.now, error);
}
