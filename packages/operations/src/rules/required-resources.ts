// What an operation must find free on its node, by the contract's OPERATION_NEEDS. What a queued operation needs changes while
// it waits, because its instance may come to hold less, or more. Claims go by these numbers alone, so they follow the instance.

import {
  INSTANCE_HOLDINGS,
  type Instance,
  needsOf,
  type Operation,
  type OperationInput,
} from "@formation-mcp/contract";
import type { InstanceRow, OperationRow } from "../sql/schema.ts";
import { all, first, run, type Transaction, type TransactionScript } from "../sql/script.ts";

type Resources = Operation["needs"];
/** An instance as far as it matters here. */
export type Holder = Pick<InstanceRow, "id" | "state" | "machine_id" | "vcpus" | "memory_mb">;

/** What is known of an instance's machine: what operations need follows it. */
export function machineOf({ state, machine_id }: Pick<Holder, "state" | "machine_id">) {
  return machine_id === null ? "none" : INSTANCE_HOLDINGS[state].machine;
}

/**
 * What an operation on an instance needs beyond what the instance's machine holds there.
 * @param wanted what the instance is to have after the operation.
 */
export function requiredFor(
  input: Exclude<OperationInput, { kind: "build" }>,
  instance: Holder,
  wanted: Resources,
): Resources {
  const { compute, disk } = needsOf(input);
  const there =
    input.kind === "ship"
      ? machineOf(instance) === "up"
      : instance.machine_id !== null && INSTANCE_HOLDINGS[instance.state].compute;
  const missing = (what: "vcpus" | "memory_mb") =>
    compute === "missing" ? Math.max(0, wanted[what] - (there ? instance[what] : 0)) : 0;
  return {
    vcpus: missing("vcpus"),
    memory_mb: missing("memory_mb"),
    disk_gb: disk === "whole" ? wanted.disk_gb : 0,
  };
}

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
  const { vcpus, memory_mb } = requiredFor(input, instance, wanted);
  return { vcpus, memory_mb };
}

/**
 * The instance holds something else than before: what waits to bring it up needs what is missing now. An operation that runs
 * keeps what it was promised; what it needs when it is given back is computed then.
 */
export function* needAnew(tx: Transaction, instance: Holder): TransactionScript<void> {
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
