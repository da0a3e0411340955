// What a queued operation needs changes while it waits: what its instance held when it was asked for may be another's by
// now, or more, or less. Capacity is promised by these numbers alone, so they follow the instance.

import type { Instance, OperationInput } from "@formation-mcp/contract";
import type { InstanceRow, OperationRow } from "../sql/schema.ts";
import { all, count, first, type Query, type Script } from "../sql/script.ts";

type Taken = Pick<OperationRow, "vcpus" | "memory_mb">;
/** An instance as far as it matters here. */
export type Holder = Pick<InstanceRow, "id" | "state" | "machine_id" | "vcpus" | "memory_mb">;

/** States in which an instance's machine holds neither CPUs nor memory. */
const HOLDS_NOTHING: readonly Instance["state"][] = ["creating", "stopped", "failed", "deleted"];

export function holds({ state, machine_id }: Pick<Holder, "state" | "machine_id">): boolean {
  return machine_id !== null && !HOLDS_NOTHING.includes(state);
}

/** What an operation needs beyond what its instance holds. */
export function* needed(q: Query, row: OperationRow, instance: Holder): Script<Taken> {
  const input = JSON.parse(row.input) as OperationInput;
  // What is lost holds what it has on its own node; a shipment may go to another.
  const there = holds(instance) && (input.kind === "control" || instance.state !== "lost");
  const beyond = (wanted: Taken): Taken => ({
    vcpus: Math.max(0, wanted.vcpus - (there ? instance.vcpus : 0)),
    memory_mb: Math.max(0, wanted.memory_mb - (there ? instance.memory_mb : 0)),
  });
  if (input.kind === "control" && input.action !== "stop" && input.action !== "pause")
    return beyond(instance);
  if (input.kind !== "ship") return { vcpus: row.vcpus, memory_mb: row.memory_mb };
  const deployment = yield* first(
    q.cached("deployment.config", { id: input.deployment_id }, (db, p) =>
      db.selectFrom("deployments").select("config").where("id", "=", p.id),
    ),
  );
  if (!deployment) return { vcpus: row.vcpus, memory_mb: row.memory_mb };
  return beyond((JSON.parse(deployment.config) as Instance["config"]).resources);
}

/**
 * The instance holds something else than before: what waits to bring it up needs what is missing now. What runs keeps what
 * it was promised; what it needs when it is given back is seen then.
 */
export function* needAnew(q: Query, instance: Holder): Script<void> {
  const waiting = yield* all(
    q.cached("operations.waiting", { key: instance.id }, (db, p) =>
      q.locks.wait(
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
    const { vcpus, memory_mb } = yield* needed(q, row, instance);
    if (row.state !== "queued" || (vcpus === row.vcpus && memory_mb === row.memory_mb)) continue;
    yield* count(
      q.cached("operations.needs", { vcpus, memory_mb, _seq: row.seq }, (db, { _seq, ...p }) =>
        db.updateTable("operations").set(p).where("seq", "=", _seq),
      ),
    );
  }
}
