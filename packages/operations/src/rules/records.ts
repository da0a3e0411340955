// Reads single records, which checks their owner, and changes them, which checks the contract's tables of
// legal moves. A change brings its consequences along: metadata rows, the use of a build, what waiting
// operations need.

import {
  BUILD_STATES,
  type BuildState,
  canMove,
  DEPLOYMENT_STATES,
  FormationError,
  type Id,
  INSTANCE_STATES,
  type Instance,
  machineOf,
} from "@formation-mcp/contract";
import type { BuildPatch, Changes, DeploymentPatch, InstancePatch } from "../port.ts";
import { fromPatch, notFound } from "../sql/rows.ts";
import type { BuildRow, DeploymentRow, InstanceRow, OperationRow } from "../sql/schema.ts";
import { all, first, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { updateRequirements } from "./required-resources.ts";

/** The row, if it exists and is this owner's. `owner: null` sees all. @throws FormationError `not_found` */
function ownedBy<R extends { owner: string }>(
  row: R | undefined,
  owner: string | null,
  what: string,
  id: string,
): R {
  if (!row || (owner !== null && row.owner !== owner)) throw notFound(what, id);
  return row;
}

/** An operation of any owner, or undefined. */
export function* findOperation(tx: Transaction, id: Id<"op">): TransactionScript<OperationRow | undefined> {
  return yield* first(
    tx.cached("operation", { id }, (db, p) =>
      tx.locks.forUpdate(db.selectFrom("operations").selectAll().where("id", "=", p.id)),
    ),
  );
}

export function* operationRow(
  tx: Transaction,
  owner: string | null,
  id: Id<"op">,
): TransactionScript<OperationRow> {
  return ownedBy(yield* findOperation(tx, id), owner, "operation", id);
}

export function* buildRow(tx: Transaction, owner: string | null, id: Id<"bld">): TransactionScript<BuildRow> {
  const row = yield* first(
    tx.cached("build", { id }, (db, p) =>
      tx.locks.forUpdate(db.selectFrom("builds").selectAll().where("id", "=", p.id)),
    ),
  );
  return ownedBy(row, owner, "build", id);
}

export function* deploymentRow(
  tx: Transaction,
  owner: string | null,
  id: Id<"dep">,
): TransactionScript<DeploymentRow> {
  const row = yield* first(
    tx.cached("deployment", { id }, (db, p) =>
      tx.locks.forUpdate(db.selectFrom("deployments").selectAll().where("id", "=", p.id)),
    ),
  );
  return ownedBy(row, owner, "deployment", id);
}

/** An instance of any owner, or undefined. */
export function* findInstance(tx: Transaction, id: Id<"vm">): TransactionScript<InstanceRow | undefined> {
  return yield* first(
    tx.cached("instance", { id }, (db, p) =>
      tx.locks.forUpdate(db.selectFrom("instances").selectAll().where("id", "=", p.id)),
    ),
  );
}

export function* instanceRow(
  tx: Transaction,
  owner: string | null,
  id: Id<"vm">,
): TransactionScript<InstanceRow> {
  return ownedBy(yield* findInstance(tx, id), owner, "instance", id);
}

/** Changes records of one owner. @throws FormationError `not_found`, or `conflict` for an illegal move. */
export function* applyChanges(tx: Transaction, owner: string, changes: Changes): TransactionScript<void> {
  for (const { id, patch } of changes.builds ?? []) {
    yield* patchBuild(tx, yield* buildRow(tx, owner, id), patch);
  }
  for (const { id, patch } of changes.deployments ?? []) {
    yield* patchDeployment(tx, yield* deploymentRow(tx, owner, id), patch);
  }
  for (const { id, patch } of changes.instances ?? []) {
    yield* patchInstance(tx, yield* instanceRow(tx, owner, id), patch);
  }
}

export function* patchBuild(tx: Transaction, row: BuildRow, patch: BuildPatch): TransactionScript<void> {
  checkMove(BUILD_STATES, row, patch.state);
  const set = { ...fromPatch(patch), ...nextVersion(tx, row) };
  yield* run(
    tx.cached(`builds ${Object.keys(set)}`, { ...set, _id: row.id }, (db, { _id, ...p }) =>
      db.updateTable("builds").set(p).where("id", "=", _id),
    ),
  );
}

export function* patchDeployment(
  tx: Transaction,
  row: DeploymentRow,
  patch: DeploymentPatch,
): TransactionScript<void> {
  checkMove(DEPLOYMENT_STATES, row, patch.state);
  const set = { ...fromPatch(patch), ...nextVersion(tx, row) };
  yield* run(
    tx.cached(`deployments ${Object.keys(set)}`, { ...set, _id: row.id }, (db, { _id, ...p }) =>
      db.updateTable("deployments").set(p).where("id", "=", _id),
    ),
  );
  if (patch.state === "superseded" && row.state !== "superseded") yield* markBuildUsed(tx, row.build_id);
}

export function* patchInstance(
  tx: Transaction,
  row: InstanceRow,
  patch: InstancePatch,
): TransactionScript<void> {
  if (row.state === "deleted") {
    throw new FormationError("conflict", `The instance ${row.name} is deleted.`, {
      remedy: "Create a new one; the name is free.",
    });
  }
  checkMove(INSTANCE_STATES, row, patch.state);
  const set = { ...fromPatch(patch), ...nextVersion(tx, row) };
  yield* run(
    tx.cached(`instances ${Object.keys(set)}`, { ...set, _id: row.id }, (db, { _id, ...p }) =>
      db.updateTable("instances").set(p).where("id", "=", _id),
    ),
  );
  if (patch.config) {
    yield* clearMetadata(tx, row.seq);
    yield* writeMetadata(tx, row.owner, row.seq, patch.config);
  }
  if (patch.state === "deleted") yield* markBuildUsed(tx, row.build_id);
  const { vcpus, memory_mb } = patch.config?.resources ?? row;
  const { state = row.state, machine_id = row.machine_id } = patch;
  const now = { id: row.id, state, machine_id, vcpus, memory_mb };
  if (patch.config || machineOf(now) !== machineOf(row)) yield* updateRequirements(tx, now);
}

/** Removes the metadata rows of an instance. */
export function* clearMetadata(tx: Transaction, seq: number): TransactionScript<void> {
  yield* run(
    tx.cached("metadata.clear", { seq }, (db, p) =>
      db.deleteFrom("instance_metadata").where("instance_seq", "=", p.seq),
    ),
  );
}

/** Writes a metadata row for each pair in an instance's configuration. */
export function* writeMetadata(
  tx: Transaction,
  owner: string,
  seq: number,
  config: Instance["config"],
): TransactionScript<void> {
  for (const [key, value] of Object.entries(config.metadata)) {
    const pair = { key, value, owner, instance_seq: seq };
    yield* run(tx.cached("metadata.add", pair, (db, p) => db.insertInto("instance_metadata").values(p)));
  }
}

/** Restarts the time for which a build is kept after its last use. */
export function* markBuildUsed(
  tx: Transaction,
  id: Id<"bld">,
): TransactionScript<{ state: BuildState; owner: string } | undefined> {
  const rows = yield* all(
    tx.cached("build.use", { id, now: tx.now }, (db, p) =>
      db
        .updateTable("builds")
        .set((eb) => ({ used_at: p.now, updated_at: p.now, version: eb("version", "+", 1) }))
        .where("id", "=", p.id)
        .returning(["state", "owner"]),
    ),
  );
  return rows[0];
}

function nextVersion(tx: Transaction, row: { version: number }): { version: number; updated_at: number } {
  return { version: row.version + 1, updated_at: tx.now };
}

/** @throws FormationError `conflict` if a record of this state may not become `to`. */
function checkMove<S extends string>(
  table: Record<S, readonly string[]>,
  row: { id: string; state: S },
  to: S | undefined,
): void {
  if (to !== undefined && !canMove(table, row.state, to)) {
    throw new FormationError("conflict", `${row.id} is ${row.state} and cannot become ${to}.`, {
      remedy: "Read the record again: somebody else has moved it.",
    });
  }
}
