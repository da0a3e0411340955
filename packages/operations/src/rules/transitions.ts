// How the records that an operation makes follow it: given back, failed or cancelled together, so that no record waits
// for an operation that is over.

import {
  BUILD_STATES,
  canMove,
  DEPLOYMENT_STATES,
  type ErrorRecord,
  FormationError,
  type Id,
  INSTANCE_STATES,
  isFinal,
  LIMITS,
  type OperationInput,
} from "@formation-mcp/contract";
import { write } from "../sql/rows.ts";
import type { BuildRow, DeploymentRow, InstanceRow, OperationRow } from "../sql/schema.ts";
import { first, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { patchBuild, patchDeployment, patchInstance } from "./records.ts";
import { requiredNow } from "./required-resources.ts";

/** How long an ended operation is shown to be kept; what really removes it is the sweep's option. */
const KEPT_MS = LIMITS.operationKeptMs;

export type End =
  | { state: "completed" }
  | { state: "failed"; error: ErrorRecord }
  | { state: "cancelled"; error: ErrorRecord };

interface Mine {
  build: BuildRow | undefined;
  deployment: DeploymentRow | undefined;
  instance: InstanceRow | undefined;
}

/** The records that this operation was to make, as far as they are there: never those of another operation. */
function* mine(tx: Transaction, row: OperationRow): TransactionScript<Mine> {
  const input = JSON.parse(row.input) as OperationInput;
  const none: Mine = { build: undefined, deployment: undefined, instance: undefined };
  if (input.kind !== "build" && input.kind !== "ship") return none;
  const build = yield* first(
    tx.cached("build.mine", { id: input.build_id, operation: row.id }, (db, p) =>
      tx.locks.forUpdate(
        db.selectFrom("builds").selectAll().where("id", "=", p.id).where("operation_id", "=", p.operation),
      ),
    ),
  );
  if (input.kind === "build") return { ...none, build };
  const deployment = yield* first(
    tx.cached("deployment.mine", { id: input.deployment_id, operation: row.id }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("deployments")
          .selectAll()
          .where("id", "=", p.id)
          .where("operation_id", "=", p.operation),
      ),
    ),
  );
  const instance = yield* first(
    tx.cached("instance.mine", { id: input.instance_id, owner: row.owner }, (db, p) =>
      tx.locks.forUpdate(
        db.selectFrom("instances").selectAll().where("id", "=", p.id).where("owner", "=", p.owner),
      ),
    ),
  );
  return { build, deployment, instance };
}

/**
 * Gives a running operation back to the queue; its records wait with it.
 * @param run_at not claimed before then, in milliseconds since the epoch.
 */
export function* giveBack(
  tx: Transaction,
  row: OperationRow,
  run_at: number,
  error: ErrorRecord | null,
): TransactionScript<OperationRow> {
  const { build, deployment } = yield* mine(tx, row);
  if (build?.state === "building") yield* patchBuild(tx, build, { state: "queued" });
  if (deployment?.state === "deploying") yield* patchDeployment(tx, deployment, { state: "queued" });
  return yield* move(tx, row, {
    ...(yield* needsOf(tx, row)),
    state: "queued",
    run_at,
    error: write(error),
    progress: null,
    claimed_by: null,
    lease_until: null,
  });
}

/** What an operation that is given back needs now. */
function* needsOf(
  tx: Transaction,
  row: OperationRow,
): TransactionScript<Pick<OperationRow, "vcpus" | "memory_mb">> {
  const { vcpus, memory_mb, serial_key } = row;
  if (!serial_key.startsWith("vm_")) return { vcpus, memory_mb };
  const instance = yield* first(
    tx.cached("instance", { id: serial_key as Id<"vm"> }, (db, p) =>
      tx.locks.forUpdate(db.selectFrom("instances").selectAll().where("id", "=", p.id)),
    ),
  );
  return instance ? yield* requiredNow(tx, row, instance) : { vcpus, memory_mb };
}

/** Ends an operation, and its records with it. */
export function* end(tx: Transaction, row: OperationRow, end: End): TransactionScript<OperationRow> {
  if (end.state === "completed") yield* proven(tx, row);
  else yield* endRecords(tx, row, end);
  return yield* move(tx, row, {
    state: end.state,
    error: end.state === "completed" ? null : write(end.error),
    claimed_by: null,
    lease_until: null,
    ended_at: tx.now,
    expires_at: tx.now + KEPT_MS,
  });
}

/** An operation is completed only if what it was to make is there. */
function* proven(tx: Transaction, row: OperationRow): TransactionScript<void> {
  const { build, deployment } = yield* mine(tx, row);
  const unmade =
    build && build.state !== "ready"
      ? build
      : deployment && deployment.state !== "live" && deployment.state !== "superseded"
        ? deployment
        : undefined;
  if (unmade) {
    throw new FormationError("conflict", `${row.id} cannot be completed: ${unmade.id} is ${unmade.state}.`, {
      remedy: "Change the records in the same call, or end the operation as failed.",
    });
  }
}

function* endRecords(
  tx: Transaction,
  row: OperationRow,
  to: Exclude<End, { state: "completed" }>,
): TransactionScript<void> {
  const { build, deployment, instance } = yield* mine(tx, row);
  const ended = { state: to.state, error: to.error, ended_at: tx.now } as const;
  if (build && !isFinal(BUILD_STATES, build.state)) yield* patchBuild(tx, build, ended);
  if (deployment && canMove(DEPLOYMENT_STATES, deployment.state, to.state) && deployment.ended_at === null) {
    yield* patchDeployment(tx, deployment, ended);
  }
  // Only an instance that nothing was ever live on ends with its operation; another goes on with what it has.
  if (!instance || instance.deployment_id !== null) return;
  if (instance.state === "creating" && to.state === "cancelled" && row.attempt === 0) {
    yield* patchInstance(tx, instance, { state: "deleted", desired: "deleted", error: to.error });
  } else if (
    (instance.state === "creating" || instance.state === "starting") &&
    canMove(INSTANCE_STATES, instance.state, "failed")
  ) {
    yield* patchInstance(tx, instance, { state: "failed", error: to.error });
  }
}

/** Writes an operation's own columns. The row was read in this transaction. */
export function* move(
  tx: Transaction,
  row: OperationRow,
  set: Partial<Omit<OperationRow, "seq" | "id" | "version" | "updated_at">>,
): TransactionScript<OperationRow> {
  const columns = { ...set, version: row.version + 1, updated_at: tx.now };
  yield* run(
    tx.cached(`operations ${Object.keys(columns)}`, { ...columns, _seq: row.seq }, (db, { _seq, ...p }) =>
      db.updateTable("operations").set(p).where("seq", "=", _seq),
    ),
  );
  return { ...row, ...columns };
}
