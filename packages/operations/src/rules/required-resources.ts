// What an operation must find free on its node, by the contract's OPERATION_NEEDS. The needs of a queued
// operation change when its instance comes to hold less or more. Claims compare only the numbers in the
// operation, so these are updated.

import { type Instance, type Operation, type OperationInput, requiredFor } from "@formation-mcp/contract";
import type { InstanceRow, OperationRow } from "../sql/schema.ts";
import { all, first, run, type Transaction, type TransactionScript } from "../sql/script.ts";

type Resources = Operation["needs"];
/** The part of an instance that the needs depend on. */
export type Holder = Pick<InstanceRow, "id" | "state" | "machine_id" | "vcpus" | "memory_mb">;

type Required = Pick<OperationRow, "vcpus" | "memory_mb">;

/** What a stored operation needs now. Its disk stays what it was. */
export function* requiredNow(
  tx: Transaction,
  row: OperationRow,
  instance: Holder,
): TransactionScript<Required> {
  const input = JSON.parse(row.input) as OperationInput;
  if (input.kind === "build") return { vcpus: row.vcpus, memory_mb: row.memory_mb };
  let wanted: Resources = { ...instance, disk_gb: row.disk_gb };
  if (input.kind === "ship") {
    const deployment = yield* first(
      tx.cached("deployment.config", { id: input.deployment_id }, (db, p) =>
        db.selectFrom("deployments").select("config").where("id", "=", p.id),
      ),
    );
    if (!deployment) return { vcpus: row.vcpus, memory_mb: row.memory_mb };
    wanted = (JSON.parse(deployment.config) as Instance["config"]).resources;
  }
  const { vcpus, memory_mb } = requiredFor(input, instance, instance, wanted);
  return { vcpus, memory_mb };
}

/**
 * Updates the needs of queued operations after their instance came to hold something else. A running
 * operation keeps what it was promised; if it is requeued, its needs are computed then.
 */
export function* updateRequirements(tx: Transaction, instance: Holder): TransactionScript<void> {
  const waiting = yield* all(
    tx.cached("operations.waiting", { key: instance.id }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("operations")
          .selectAll()
          .where("serial_key", "=", p.key)
          .where("ended_at", "is", null)
          .where("desire_to", "=", "running")
          .orderBy("seq"),
      ),
    ),
  );
  for (const row of waiting) {
    const { vcpus, memory_mb } = yield* requiredNow(tx, row, instance);
    if (row.state !== "queued" || (vcpus === row.vcpus && memory_mb === row.memory_mb)) continue;
    yield* run(
      tx.cached("operations.needs", { vcpus, memory_mb, _seq: row.seq }, (db, { _seq, ...p }) =>
        db.updateTable("operations").set(p).where("seq", "=", _seq),
      ),
    );
  }
}
