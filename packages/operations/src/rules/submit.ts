// Submitting a request: the operation and its records are written together or not at all, once per
// idempotency key.

import { FormationError, type Id, type Instance, type Operation, requiredFor } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { Submission } from "../port.ts";
import { writeLabels } from "../sql/labels.ts";
import { fromBuild, fromDeployment, fromInstance, notFound, serialKey, toOperation } from "../sql/rows.ts";
import type { InstanceRow, OperationRow } from "../sql/schema.ts";
import { all, first, lockName, run, type Transaction, type TransactionScript } from "../sql/script.ts";
import { cancelOperation } from "./cancel.ts";
import { replay, saveKey } from "./idempotency.ts";
import { withinQuota } from "./quota.ts";
import {
  buildRow,
  findOperation,
  instanceRow,
  markBuildUsed,
  patchInstance,
  writeMetadata,
} from "./records.ts";
import { endOperation } from "./transitions.ts";

/**
 * Writes a submission as `Store.submit` describes.
 * @returns the operation; `replayed` if its idempotency key had made it before.
 */
export function* submit(
  tx: Transaction,
  submission: Submission,
): TransactionScript<{ operation: Operation; replayed: boolean }> {
  const { operation, idempotency } = submission;
  if (idempotency) {
    yield* lockName(tx, "idempotency", operation.owner, operation.tool, idempotency.key);
    const before = yield* replay(tx, operation.owner, operation.tool, idempotency);
    if (before) return { operation: before, replayed: true };
  }
  const row = yield* withinQuota(tx, submission, () => writeRecords(tx, submission));
  if (idempotency) yield* saveKey(tx, row, idempotency);
  return { operation: toOperation(yield* completeIfDeleted(tx, row, submission)), replayed: false };
}

/** What a submission wrote, or undefined if it was not written. The id of its operation is unique to it. */
export function* findSubmitted(
  tx: Transaction,
  { operation }: Submission,
): TransactionScript<{ operation: Operation; replayed: boolean } | undefined> {
  const row = yield* findOperation(tx, operation.id);
  return row && { operation: toOperation(row), replayed: false };
}

function* writeRecords(tx: Transaction, submission: Submission): TransactionScript<OperationRow> {
  const before = yield* lockQueue(tx, submission);
  if (submission.instance) yield* addInstance(tx, submission.instance);
  const existing = yield* checkReferences(tx, submission);
  const { instance, ...desire } = yield* writeDesire(tx, submission, existing, before);
  if (submission.build) {
    const build = fromBuild(submission.build, tx.now);
    yield* run(tx.cached("builds.add", build, (db, p) => db.insertInto("builds").values(p)));
  }
  if (submission.deployment) {
    const row = fromDeployment(submission.deployment, tx.now);
    yield* run(tx.cached("deployments.add", row, (db, p) => db.insertInto("deployments").values(p)));
    if (!submission.build) yield* markBuildUsed(tx, row.build_id);
  }
  return yield* addOperation(tx, submission, desire, requiredBy(submission, instance));
}

/** What a new operation needs. @param existing the instance that it is about, unless it makes a new one. */
function requiredBy(
  { operation, deployment, instance }: Submission,
  existing: InstanceRow | null,
): Operation["needs"] {
  const { input, needs } = operation;
  const holder = instance ? { ...instance, ...instance.config.resources } : existing;
  if (input.kind !== "build" && holder)
    return requiredFor(input, holder, holder, deployment?.config.resources ?? holder);
  if (needs) return needs;
  throw new FormationError("internal", "A build was submitted without what it needs.");
}

function* addInstance(
  tx: Transaction,
  instance: NonNullable<Submission["instance"]>,
): TransactionScript<void> {
  const taken = yield* instanceByName(tx, instance.owner, instance.name);
  if (taken) {
    throw new FormationError("conflict", `There is an instance named ${instance.name} already.`, {
      remedy: "Choose another name, replace what runs under this one, or delete it first.",
    });
  }
  const row = fromInstance(instance, tx.now);
  const [added] = yield* all(
    tx.cached("instances.add", row, (db, p) => db.insertInto("instances").values(p).returning("seq")),
  );
  yield* writeMetadata(tx, row.owner, added?.seq ?? 0, instance.config);
}

export function* instanceByName(
  tx: Transaction,
  owner: string,
  name: string,
): TransactionScript<{ id: Id<"vm"> } | undefined> {
  return yield* first(
    tx.cached("instance.name", { owner, name }, (db, p) =>
      db
        .selectFrom("instances")
        .select("id")
        .where("owner", "=", p.owner)
        .where("name", "=", p.name)
        .where("state", "<>", sql.lit("deleted" as const)),
    ),
  );
}

/**
 * A record that the request refers to may have been removed since the caller looked it up.
 * @returns the instance that the operation is about; null if it is new or there is none.
 */
function* checkReferences(
  tx: Transaction,
  { operation, build, instance }: Submission,
): TransactionScript<InstanceRow | null> {
  const { input, owner } = operation;
  if ((input.kind === "build" || input.kind === "ship") && !build) {
    yield* buildRow(tx, owner, input.build_id);
  }
  if (input.kind === "build" || instance) return null;
  const row = yield* instanceRow(tx, owner, input.instance_id);
  if (row.state === "deleted" && input.kind !== "delete") throw notFound("instance", row.id);
  return row;
}

/** The instance's `desired` before and after the submission; null if it does not change it. */
interface Desire {
  from: Instance["desired"] | null;
  to: Instance["desired"] | null;
}

/**
 * Cancels the operations `before` this one, and writes what the owner desires of the instance.
 * @returns the instance with them, as the cancelled operations left it.
 */
function* writeDesire(
  tx: Transaction,
  { operation, desire }: Submission,
  existing: InstanceRow | null,
  before: readonly OperationRow[],
): TransactionScript<Desire & { instance: InstanceRow | null }> {
  if (existing && desire && existing.version !== desire.version) {
    throw new FormationError("conflict", `The instance ${existing.name} has changed meanwhile.`, {
      remedy: "Read it again and repeat the call if it still makes sense.",
    });
  }
  for (const row of before.toReversed()) yield* cancelOperation(tx, row);
  const instance =
    existing && before.length > 0 ? yield* instanceRow(tx, operation.owner, existing.id) : existing;
  if (!instance || !desire) return { instance, from: null, to: null };
  if (instance.state !== "deleted") yield* patchInstance(tx, instance, { desired: desire.desired });
  return { instance, from: instance.desired, to: desire.desired };
}

/**
 * Completes a delete at once if the instance is deleted, perhaps because its only deployment was just
 * cancelled.
 */
function* completeIfDeleted(
  tx: Transaction,
  row: OperationRow,
  { operation }: Submission,
): TransactionScript<OperationRow> {
  if (operation.input.kind !== "delete") return row;
  const { state } = yield* instanceRow(tx, row.owner, operation.input.instance_id);
  return state === "deleted" ? yield* endOperation(tx, row, { state: "completed" }) : row;
}

/**
 * Locks the queue of the instance, so that no other operation on it is added until this one is committed:
 * their order is that of `seq`.
 * @returns the unfinished operations that this one cancels.
 */
function* lockQueue(
  tx: Transaction,
  { operation, instance, cancelOthers }: Submission,
): TransactionScript<OperationRow[]> {
  if (operation.input.kind === "build" || instance) return [];
  const key = serialKey(operation.input);
  yield* lockName(tx, "serial", key);
  if (!cancelOthers) return [];
  return yield* all(
    tx.cached("operations.unfinished", { key }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("operations")
          .selectAll()
          .where("serial_key", "=", p.key)
          .where("ended_at", "is", null)
          .orderBy("seq"),
      ),
    ),
  );
}

function* addOperation(
  tx: Transaction,
  { operation }: Submission,
  desire: Desire,
  needs: Operation["needs"],
): TransactionScript<OperationRow> {
  const { input, ...given } = operation;
  const values = {
    id: given.id,
    owner: given.owner,
    tool: given.tool,
    state: "queued" as const,
    subject: given.subject,
    input: JSON.stringify(input),
    target_id: given.target_id,
    serial_key: serialKey(input),
    node_id: given.node_id,
    labels: writeLabels(given.labels),
    vcpus: needs.vcpus,
    memory_mb: needs.memory_mb,
    disk_gb: needs.disk_gb,
    attempt: 0,
    send: 1,
    sent_at: tx.now,
    deadline_at: given.deadline_at,
    run_at: tx.now,
    desire_from: desire.from,
    desire_to: desire.to,
    version: 1,
    created_at: tx.now,
    updated_at: tx.now,
  };
  const [row] = yield* all(
    tx.cached("operations.add", values, (db, p) => db.insertInto("operations").values(p).returningAll()),
  );
  if (!row) throw new FormationError("internal", "The operation was not written.");
  return row;
}
