// Idempotency keys: a repeated request writes nothing and gets the operation of the first one.

import { FormationError, LIMITS, type Operation } from "@formation-mcp/contract";
import type { Idempotency } from "../port.ts";
import { toOperation } from "../sql/rows.ts";
import type { OperationRow } from "../sql/schema.ts";
import { first, run, type Transaction, type TransactionScript } from "../sql/script.ts";

/**
 * The operation that a key made before, or null.
 * @throws FormationError `conflict` if the key was used with other input.
 */
export function* replay(
  tx: Transaction,
  owner: string,
  tool: string,
  { key, inputDigest }: Idempotency,
): TransactionScript<Operation | null> {
  const used = yield* first(
    tx.cached("idempotency", { owner, tool, key, now: tx.now }, (db, p) =>
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
    tx.cached("operation.replayed", { id: used.operation_id }, (db, p) =>
      db.selectFrom("operations").selectAll().where("id", "=", p.id),
    ),
  );
  return row ? toOperation(row) : null;
}

/** Writes a key and its operation, to be kept for `LIMITS.idempotencyKeptMs`. */
export function* saveKey(
  tx: Transaction,
  row: OperationRow,
  { key, inputDigest }: Idempotency,
): TransactionScript<void> {
  const values = {
    owner: row.owner,
    tool: row.tool,
    key,
    input_digest: inputDigest,
    operation_id: row.id,
    expires_at: tx.now + LIMITS.idempotencyKeptMs,
  };
  // An expired row that the sweep has not removed yet is overwritten.
  yield* run(
    tx.cached("idempotency.add", values, (db, p) =>
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
