// What a queued operation needs may grow while it waits: what its instance held when it was asked for may be another's by
// now. Capacity is promised by these numbers alone, so they follow the instance.

import type { Instance, OperationInput } from "@formation-mcp/contract";
import type { InstanceRow, OperationRow } from "./schema.ts";
import { all, count, first, type Query, type Script } from "./script.ts";

type Held = Pick<OperationRow, "vcpus" | "memory_mb">;

/** States in which an instance's machine holds neither CPUs nor memory. */
export const HOLDS_NOTHING: readonly Instance["state"][] = ["stopped", "failed"];

/** What an operation needs on an instance that holds nothing. */
export function* inFull(q: Query, row: OperationRow, instance: InstanceRow): Script<Held> {
  const input = JSON.parse(row.input) as OperationInput;
  const larger = ({ vcpus, memory_mb }: Held): Held => ({
    vcpus: Math.max(row.vcpus, vcpus),
    memory_mb: Math.max(row.memory_mb, memory_mb),
  });
  if (input.kind === "control") {
    return input.action === "stop" || input.action === "pause" ? row : larger(instance);
  }
  if (input.kind !== "ship") return row;
  const deployment = yield* first(
    q.cached("deployment.config", { id: input.deployment_id }, (db, p) =>
      db.selectFrom("deployments").select("config").where("id", "=", p.id),
    ),
  );
  return deployment ? larger((JSON.parse(deployment.config) as Instance["config"]).resources) : row;
}

/** The instance holds nothing any more: what waits to bring it up needs all of it. */
export function* needAll(q: Query, instance: InstanceRow): Script<void> {
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
    const { vcpus, memory_mb } = yield* inFull(q, row, instance);
    // One that runs was promised what it has; what it needs when it is given back is seen then.
    if (row.state !== "queued" || (vcpus === row.vcpus && memory_mb === row.memory_mb)) continue;
    yield* count(
      q.cached("operations.needs", { vcpus, memory_mb, _seq: row.seq }, (db, { _seq, ...p }) =>
        db.updateTable("operations").set(p).where("seq", "=", _seq),
      ),
    );
  }
}
