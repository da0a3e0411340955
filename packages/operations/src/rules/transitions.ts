// The transitions of an operation: requeued, completed, failed, cancelled. The records that it was to make
// follow it in the same transaction, so that no record waits for an operation that has ended.

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
import { toJson } from "../sql/rows.ts";
import type { BuildRow, DeploymentRow, InstanceRow, OperationRow } from "../sql/schema.ts";
import { first, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { findInstance, patchBuild, patchDeployment, patchInstance } from "./records.ts";
import { requiredNow } from "./required-resources.ts";

export type OperationEnd =
  | { state: "completed" }
  | { state: "failed"; error: ErrorRecord }
  | { state: "cancelled"; error: ErrorRecord };

interface OwnRecords {
  build: BuildRow | undefined;
  deployment: DeploymentRow | undefined;
  instance: InstanceRow | undefined;
}

/** The records that this operation was to make, as far as they exist; never those of another operation. */
function* ownRecords(tx: Transaction, row: OperationRow): TransactionScript<OwnRecords> {
  const input = JSON.parse(row.input) as OperationInput;
  const none: OwnRecords = { build: undefined, deployment: undefined, instance: undefined };
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
 * Gives a running operation back to the queue, and its records too.
 * @param run_at the earliest time of the next claim, in milliseconds since the epoch.
 */
export function* requeue(
  tx: Transaction,
  row: OperationRow,
  run_at: number,
  error: ErrorRecord | null,
): TransactionScript<OperationRow> {
  const { build, deployment } = yield* ownRecords(tx, row);
  if (build?.state === "building") yield* patchBuild(tx, build, { state: "queued" });
  if (deployment?.state === "deploying") yield* patchDeployment(tx, deployment, { state: "queued" });
  return yield* updateOperation(tx, row, {
    ...(yield* requiredAgain(tx, row)),
    state: "queued",
    run_at,
    error: toJson(error),
    progress: null,
    claimed_by: null,
    lease_until: null,
  });
}

/** What a requeued operation needs now: its instance may hold something else than at the submission. */
function* requiredAgain(
  tx: Transaction,
  row: OperationRow,
): TransactionScript<Pick<OperationRow, "vcpus" | "memory_mb">> {
  const { vcpus, memory_mb, serial_key } = row;
  if (!serial_key.startsWith("vm_")) return { vcpus, memory_mb };
  const instance = yield* findInstance(tx, serial_key as Id<"vm">);
  return instance ? yield* requiredNow(tx, row, instance) : { vcpus, memory_mb };
}

/**
 * Ends an operation, and its records with it. `expires_at` is a forecast: the sweep removes by its own
 * option.
 * @throws FormationError `conflict` if it is completed without its records.
 */
export function* endOperation(
  tx: Transaction,
  row: OperationRow,
  end: OperationEnd,
): TransactionScript<OperationRow> {
  if (end.state === "completed") yield* checkRecordsMade(tx, row);
  else yield* endRecords(tx, row, end);
  return yield* updateOperation(tx, row, {
    state: end.state,
    error: end.state === "completed" ? null : toJson(end.error),
    claimed_by: null,
    lease_until: null,
    ended_at: tx.now,
    expires_at: tx.now + LIMITS.operationKeptMs,
  });
}

/** @throws FormationError `conflict` unless the records that the operation was to make are ready. */
function* checkRecordsMade(tx: Transaction, row: OperationRow): TransactionScript<void> {
  const { build, deployment } = yield* ownRecords(tx, row);
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

/** Moves the records of an operation that failed or was cancelled. */
function* endRecords(
  tx: Transaction,
  row: OperationRow,
  to: Exclude<OperationEnd, { state: "completed" }>,
): TransactionScript<void> {
  const { build, deployment, instance } = yield* ownRecords(tx, row);
  const ended = { state: to.state, error: to.error, ended_at: tx.now } as const;
  if (build && !isFinal(BUILD_STATES, build.state)) yield* patchBuild(tx, build, ended);
  if (deployment && canMove(DEPLOYMENT_STATES, deployment.state, to.state) && deployment.ended_at === null) {
    yield* patchDeployment(tx, deployment, ended);
  }
  // An instance that was never live ends with its operation. Any other one keeps what it has.
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

/** Writes columns of an operation and returns the new row. `row` must have been read in this transaction. */
export function* updateOperation(
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
