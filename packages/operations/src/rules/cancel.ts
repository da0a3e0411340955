// Cancelling: what waits ends at once, what runs is asked to end. A cancelled operation that had changed what the owner
// desires of an instance takes that back, because an operation that never began must leave no trace; one that failed
// does not, because the owner still wants it.

import { type ErrorRecord, hasEnded, type Id } from "@formation-mcp/contract";
import type { OperationRow } from "../sql/schema.ts";
import { first, lockName, ONE, type Transaction, type TransactionScript } from "../sql/script.ts";
import { instanceRow, operationRow, patchInstance } from "./records.ts";
import { end, move } from "./transitions.ts";

export const CANCELLED: ErrorRecord = {
  code: "cancelled",
  message: "The operation was cancelled before it began.",
};

export function* requestCancel(
  tx: Transaction,
  owner: string | null,
  id: Id<"op">,
): TransactionScript<OperationRow> {
  if (tx.locks.manyWriters) {
    const asked = yield* first(
      tx.cached("operation.key", { id }, (db, p) =>
        db.selectFrom("operations").select("serial_key").where("id", "=", p.id),
      ),
    );
    // What was wished after it decides what is wished when it is gone.
    if (asked) yield* lockName(tx, "serial", asked.serial_key);
  }
  return yield* cancelOperation(tx, yield* operationRow(tx, owner, id));
}

/** Idempotent: an operation that ended, or was asked before, stays as it is. */
export function* cancelOperation(tx: Transaction, row: OperationRow): TransactionScript<OperationRow> {
  if (hasEnded(row)) return row;
  if (row.state === "running") {
    if (row.cancel_requested_at !== null) return row;
    return yield* move(tx, row, { cancel_requested_at: tx.now });
  }
  const asked = yield* move(tx, row, { cancel_requested_at: tx.now });
  yield* restoreDesire(tx, asked);
  const error =
    row.attempt === 0
      ? CANCELLED
      : { ...CANCELLED, message: "The operation was cancelled while it waited for another attempt." };
  return yield* end(tx, asked, { state: "cancelled", error });
}

function* restoreDesire(tx: Transaction, row: OperationRow): TransactionScript<void> {
  const { desire_from, desire_to } = row;
  if (desire_from === null || desire_to === null) return;
  const younger = yield* first(
    tx.cached("operation.younger-desire", { key: row.serial_key, seq: row.seq }, (db, p) =>
      tx.locks.forUpdate(
        db
          .selectFrom("operations")
          .selectAll()
          .where("serial_key", "=", p.key)
          .where("seq", ">", p.seq)
          .where("ended_at", "is", null)
          .where("desire_to", "is not", null)
          .orderBy("seq")
          .limit(ONE),
      ),
    ),
  );
  // A younger wish stands; should that be cancelled too, it goes back to what was before this one.
  if (younger) {
    yield* move(tx, younger, { desire_from });
    return;
  }
  const instance = yield* instanceRow(tx, row.owner, row.serial_key as `vm_${string}`);
  if (instance.state !== "deleted" && instance.desired === desire_to) {
    yield* patchInstance(tx, instance, { desired: desire_from });
  }
}
