// Lookups of single records by something else than their id, and the digests that records name.

import { FormationError, type Id, type Instance, type Operation } from "@formation-mcp/contract";
import type { InstancePatch } from "../port.ts";
import { toInstance, toOperation } from "../sql/rows.ts";
import { all, first, ONE, type Transaction, type TransactionScript } from "../sql/script.ts";
import { documentArtifacts } from "./documents.ts";
import { instanceRow, patchInstance } from "./records.ts";
import { instanceByName } from "./submit.ts";

/** The newest operation about a record, or null. Each kind of reference has an index of its own. */
export function* operationFor(tx: Transaction, target: Id): TransactionScript<Operation | null> {
  const found = [];
  for (const column of ["serial_key", "target_id"] as const) {
    found.push(
      yield* first(
        tx.cached(`operation.for ${column}`, { target }, (db, p) => {
          const select = db.selectFrom("operations").selectAll().where(column, "=", p.target);
          const rest = column === "target_id" ? select.whereRef("target_id", "<>", "serial_key") : select;
          return rest.orderBy("seq", "desc").limit(ONE);
        }),
      ),
    );
  }
  if (target.startsWith("dep_")) {
    found.push(
      yield* first(
        tx.cached("operation.for deployment", { target: target as Id<"dep"> }, (db, p) =>
          db
            .selectFrom("operations as o")
            .innerJoin("deployments as d", "d.operation_id", "o.id")
            .selectAll("o")
            .where("d.id", "=", p.target),
        ),
      ),
    );
  }
  const newest = found.filter((row) => row !== undefined).sort((a, b) => b.seq - a.seq)[0];
  return newest ? toOperation(newest) : null;
}

/** The instance of that name that is not deleted, or null. */
export function* byName(tx: Transaction, owner: string, name: string): TransactionScript<Instance | null> {
  const found = yield* instanceByName(tx, owner, name);
  return found ? toInstance(yield* instanceRow(tx, owner, found.id)) : null;
}

export function* observe(
  tx: Transaction,
  id: Id<"vm">,
  version: number,
  patch: InstancePatch,
): TransactionScript<Instance> {
  const row = yield* instanceRow(tx, null, id);
  if (row.version !== version) {
    throw new FormationError("conflict", `The instance ${row.name} has changed meanwhile.`, {
      remedy: "Read it again and look once more.",
    });
  }
  yield* patchInstance(tx, row, patch);
  return toInstance(yield* instanceRow(tx, null, id));
}

/** The digests of the artifacts that builds and documents still name. */
export function* artifactRoots(tx: Transaction): TransactionScript<string[]> {
  const rows = yield* all(
    tx.cached("roots", {}, (db) => {
      const named = (column: "context_digest" | "archive") =>
        db
          .selectFrom("builds")
          .select((eb) => eb.ref(column).as("digest"))
          .where(column, "is not", null)
          .$narrowType<{ digest: string }>();
      return named("context_digest").union(named("archive"));
    }),
  );
  return [...new Set([...rows.map((row) => row.digest), ...(yield* documentArtifacts(tx))])];
}
