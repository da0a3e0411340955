// What happens to a node that an admin removes: to its record, its instances and its operations.

import { type ErrorRecord, FormationError, type Id, LIMITS } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { NodeRemoval } from "../port.ts";
import { notFound, toInstance, toOperation } from "../sql/rows.ts";
import type { InstanceRow, NodeRow, OperationRow } from "../sql/schema.ts";
import { all, first, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { CANCELLED } from "./cancel.ts";
import { instanceRow, patchDeployment, patchInstance } from "./records.ts";
import { endOperation, requeue } from "./transitions.ts";

/** Removes a node as `Store.removeNode` describes. */
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
  const error = nodeRemoved(node);
  const removal: NodeRemoval = { instances: [], operations: [] };
  for (const { id: vm } of instances) {
    const row = yield* instanceRow(tx, null, vm);
    yield* giveUpInstance(tx, row, error);
    removal.instances.push(toInstance(yield* instanceRow(tx, null, vm)));
  }
  for (const row of operations)
    removal.operations.push(toOperation(yield* releaseOperation(tx, row, id, error)));
  // Its worker may still run. It gets no work until an admin uncordons the node.
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

/** The unfinished operations that this node runs, or that are pinned to it. */
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

/** @throws FormationError `conflict` if a machine or an unfinished operation is on the node. */
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

function nodeRemoved(node: NodeRow): ErrorRecord {
  return {
    code: "unavailable",
    message: `Its node ${node.name} was removed by an operator, and what was on it is given up.`,
    remedy: "Ship a build to this name again with replace: true, or delete it.",
    step: "run",
  };
}

/**
 * Gives an instance up. If its node comes back, it finds no record of the machine and removes the machine.
 */
function* giveUpInstance(tx: Transaction, row: InstanceRow, error: ErrorRecord): TransactionScript<void> {
  const noMachine = { node_id: null, machine_id: null, observed: null };
  // An instance that was never made stays: its operation makes it, on this node or another.
  const neverMade = row.machine_id === null && (row.state === "creating" || row.state === "starting");
  if (neverMade && row.desired !== "deleted") return yield* patchInstance(tx, row, { node_id: null });
  if (row.desired !== "deleted") {
    const keeps = row.machine_id === null && row.error !== null;
    yield* patchInstance(tx, row, { ...noMachine, state: "failed", ...(keeps ? {} : { error }) });
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
  yield* patchInstance(tx, row, { ...noMachine, state: "deleted", error: null });
}

/** Ends an operation of a removed node, or gives it back to the queue. */
function* releaseOperation(
  tx: Transaction,
  row: OperationRow,
  node: Id<"node">,
  error: ErrorRecord,
): TransactionScript<OperationRow> {
  const { kind } = JSON.parse(row.input) as { kind: string };
  if (kind === "delete") return yield* endOperation(tx, row, { state: "completed" });
  if (row.cancel_requested_at !== null)
    return yield* endOperation(tx, row, { state: "cancelled", error: CANCELLED });
  if (row.node_id === node || row.attempt >= LIMITS.attempts)
    return yield* endOperation(tx, row, { state: "failed", error });
  // Its worker may still run: the next attempt begins only after the lease.
  return yield* requeue(tx, row, row.lease_until ?? tx.now, error);
}
