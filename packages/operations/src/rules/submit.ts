// Taking a request: the operation and its records are written together or not at all, once per idempotency key.

import { FormationError, type Id, type Instance, LIMITS, type Operation } from "@formation-mcp/contract";
import { sql } from "kysely";
import type { Idempotency, Submission } from "../port.ts";
import { writeLabels } from "../sql/labels.ts";
import { alone } from "../sql/locks.ts";
import { fromBuild, fromDeployment, fromInstance, notFound, serialKey, toOperation } from "../sql/rows.ts";
import type { OperationRow } from "../sql/schema.ts";
import { all, count, first, type Query, type Script } from "../sql/script.ts";
import { cancelOperation } from "./cancel.ts";
import { within } from "./quota.ts";
import { buildRow, instanceRow, patchInstance, useBuild, writeMetadata } from "./records.ts";
import { requiredFor } from "./required-resources.ts";
import { end } from "./transitions.ts";

export function* submit(
  q: Query,
  submission: Submission,
): Script<{ operation: Operation; replayed: boolean }> {
  const { operation, idempotency } = submission;
  if (idempotency) {
    yield* alone(q, "idempotency", operation.owner, operation.tool, idempotency.key);
    const before = yield* replay(q, operation.owner, operation.tool, idempotency);
    if (before) return { operation: before, replayed: true };
  }
  const row = yield* within(q, submission, () => writeAll(q, submission));
  if (idempotency) yield* remember(q, row, idempotency);
  return { operation: toOperation(yield* completeIfGone(q, row, submission)), replayed: false };
}

/** What a submission has made, if it was written: the id of its operation is nobody else's. */
export function* submitted(
  q: Query,
  { operation }: Submission,
): Script<{ operation: Operation; replayed: boolean } | undefined> {
  const row = yield* first(
    q.cached("operation", { id: operation.id }, (db, p) =>
      q.locks.wait(db.selectFrom("operations").selectAll().where("id", "=", p.id)),
    ),
  );
  return row && { operation: toOperation(row), replayed: false };
}

function* writeAll(q: Query, submission: Submission): Script<OperationRow> {
  const before = yield* unfinished(q, submission);
  if (submission.instance) yield* addInstance(q, submission.instance);
  yield* checkReferences(q, submission);
  const desire = yield* writeDesire(q, submission, before);
  if (submission.build) {
    const build = fromBuild(submission.build, q.now);
    yield* count(q.cached("builds.add", build, (db, p) => db.insertInto("builds").values(p)));
  }
  if (submission.deployment) {
    const row = fromDeployment(submission.deployment, q.now);
    yield* count(q.cached("deployments.add", row, (db, p) => db.insertInto("deployments").values(p)));
    if (!submission.build) yield* useBuild(q, row.build_id);
  }
  return yield* addOperation(q, submission, desire, yield* requiredBy(q, submission));
}

/** What a new operation needs, once all that its submission changes of the instance is written. */
function* requiredBy(q: Query, submission: Submission): Script<Operation["needs"]> {
  const { operation, deployment, instance } = submission;
  const { input } = operation;
  if (input.kind === "build") {
    if (operation.needs) return operation.needs;
    throw new FormationError("internal", "A build was submitted without what it needs.");
  }
  const row = instance
    ? { ...instance, ...instance.config.resources }
    : yield* instanceRow(q, operation.owner, input.instance_id);
  return requiredFor(input, row, deployment?.config.resources ?? row);
}

/** What a key made before, or null. A key used with other input is `conflict`. */
export function* replay(
  q: Query,
  owner: string,
  tool: string,
  { key, inputDigest }: Idempotency,
): Script<Operation | null> {
  const used = yield* first(
    q.cached("idempotency", { owner, tool, key, now: q.now }, (db, p) =>
      db
        .selectFrom("idempotency")
        .select(["input_digest", "operation_id", "operation"])
        .where("owner", "=", p.owner)
        .where("tool", "=", p.tool)
        .where("key", "=", p.key)
        .where("expires_at", ">", p.now),
    ),
  );
  if (!used) return null;
  if (used.input_digest !== inputDigest) {
    throw new FormationError("conflict", "This idempotency key was used before with other input.", {
      remedy: "Use a new key for a new request; repeat the very same input to get the first result again.",
      field: "idempotency_key",
    });
  }
  if (used.operation !== null) return JSON.parse(used.operation) as Operation;
  const row = yield* first(
    q.cached("operation.replayed", { id: used.operation_id }, (db, p) =>
      db.selectFrom("operations").selectAll().where("id", "=", p.id),
    ),
  );
  return row ? toOperation(row) : null;
}

function* remember(q: Query, row: OperationRow, { key, inputDigest }: Idempotency): Script<void> {
  const values = {
    owner: row.owner,
    tool: row.tool,
    key,
    input_digest: inputDigest,
    operation_id: row.id,
    expires_at: q.now + LIMITS.idempotencyKeptMs,
  };
  // An expired row that the sweep has not removed yet is overwritten.
  yield* count(
    q.cached("idempotency.add", values, (db, p) =>
      db
        .insertInto("idempotency")
        .values(p)
        .onConflict((conflict) =>
          conflict.columns(["owner", "tool", "key"]).doUpdateSet({
            input_digest: p.input_digest,
            operation_id: p.operation_id,
            operation: null,
            expires_at: p.expires_at,
          }),
        ),
    ),
  );
}

function* addInstance(q: Query, instance: NonNullable<Submission["instance"]>): Script<void> {
  const taken = yield* instanceByName(q, instance.owner, instance.name);
  if (taken) {
    throw new FormationError("conflict", `There is an instance named ${instance.name} already.`, {
      remedy: "Choose another name, replace what runs under this one, or delete it first.",
    });
  }
  const row = fromInstance(instance, q.now);
  const [added] = yield* all(
    q.cached("instances.add", row, (db, p) => db.insertInto("instances").values(p).returning("seq")),
  );
  yield* writeMetadata(q, row.owner, added?.seq ?? 0, instance.config);
}

export function* instanceByName(q: Query, owner: string, name: string): Script<{ id: Id<"vm"> } | undefined> {
  return yield* first(
    q.cached("instance.name", { owner, name }, (db, p) =>
      db
        .selectFrom("instances")
        .select("id")
        .where("owner", "=", p.owner)
        .where("name", "=", p.name)
        .where("state", "<>", sql.lit("deleted" as const)),
    ),
  );
}

/** What a request refers to may have been removed since it was looked up. */
function* checkReferences(q: Query, { operation, build, instance }: Submission): Script<void> {
  const { input, owner } = operation;
  if ((input.kind === "build" || input.kind === "ship") && !build) {
    yield* buildRow(q, owner, input.build_id);
  }
  if (input.kind !== "build" && !instance) {
    const row = yield* instanceRow(q, owner, input.instance_id);
    if (row.state === "deleted" && input.kind !== "delete") throw notFound("instance", row.id);
  }
}

interface Desire {
  from: Instance["desired"] | null;
  to: Instance["desired"] | null;
}

function* writeDesire(
  q: Query,
  { operation, desire }: Submission,
  before: readonly OperationRow[],
): Script<Desire> {
  if (desire) {
    const { version, name } = yield* instanceRow(q, operation.owner, desire.instance_id);
    if (version !== desire.version) {
      throw new FormationError("conflict", `The instance ${name} has changed meanwhile.`, {
        remedy: "Read it again and repeat the call if it still makes sense.",
      });
    }
  }
  for (const row of before.toReversed()) yield* cancelOperation(q, row);
  if (!desire) return { from: null, to: null };
  const row = yield* instanceRow(q, operation.owner, desire.instance_id);
  if (row.state !== "deleted") yield* patchInstance(q, row, { desired: desire.desired });
  return { from: row.desired, to: desire.desired };
}

/** Deleting what is deleted, perhaps because its only deployment was just cancelled, is done at once. */
function* completeIfGone(q: Query, row: OperationRow, { operation }: Submission): Script<OperationRow> {
  if (operation.input.kind !== "delete") return row;
  const { state } = yield* instanceRow(q, row.owner, operation.input.instance_id);
  return state === "deleted" ? yield* end(q, row, { state: "completed" }) : row;
}

/**
 * The operations before this one on the same instance that it cancels. Whoever adds another waits from here on, so that the
 * order of `seq` is the order in which they are seen.
 */
function* unfinished(q: Query, { operation, instance, cancelOthers }: Submission): Script<OperationRow[]> {
  if (operation.input.kind === "build" || instance) return [];
  const key = serialKey(operation.input);
  yield* alone(q, "serial", key);
  if (!cancelOthers) return [];
  return yield* all(
    q.cached("operations.unfinished", { key }, (db, p) =>
      q.locks.wait(
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
  q: Query,
  { operation }: Submission,
  desire: Desire,
  needs: Operation["needs"],
): Script<OperationRow> {
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
    sent_at: q.now,
    deadline_at: given.deadline_at,
    run_at: q.now,
    desire_from: desire.from,
    desire_to: desire.to,
    version: 1,
    created_at: q.now,
    updated_at: q.now,
  };
  const [row] = yield* all(
    q.cached("operations.add", values, (db, p) => db.insertInto("operations").values(p).returningAll()),
  );
  if (!row) throw new FormationError("internal", "The operation was not written.");
  return row;
}
