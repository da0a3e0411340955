// Cancelling. A queued operation ends at once, a running one is asked to end. An operation cancelled in the
// queue leaves no trace: the instance's `desired`, which its submission changed, is restored. After
// a failure `desired` stays, because the owner still wants it.

import { type ErrorRecord, hasEnded, type Id } from "@formation-mcp/contract";
import type { OperationRow } from "../sql/schema.ts";
import { first, lockName, ONE, type Transaction, type TransactionScript } from "../sql/script.ts";
import { instanceRow, operationRow, patchInstance } from "./records.ts";
import { endOperation, updateOperation } from "./transitions.ts";

export const CANCELLED: ErrorRecord = {
  code: "cancelled",
  message: "The operation was cancelled before it began.",
};

/** @throws FormationError `not_found` */
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
    // A later operation on the instance decides which `desired` remains, so none may be added now.
    if (asked) yield* lockName(tx, "serial", asked.serial_key);
  }
  return yield* cancelOperation(tx, yield* operationRow(tx, owner, id));
}

/** Idempotent: an operation that has ended, or was asked before, stays as it is. */
export function* cancelOperation(tx: Transaction, row: OperationRow): TransactionScript<OperationRow> {
  if (hasEnded(row)) return row;
  if (row.state === "running") {
    if (row.cancel_requested_at !== null) return row;
    return yield* updateOperation(tx, row, { cancel_requested_at: tx.now });
  }
  const asked = yield* updateOperation(tx, row, { cancel_requested_at: tx.now });
  yield* restoreDesire(tx, asked);
  const error =
    row.attempt === 0
      ? CANCELLED
      : { ...CANCELLED, message: "The operation was cancelled while it waited for another attempt." };
  return yield* endOperation(tx, asked, { state: "cancelled", error });
}

/** Undoes the change of `desired` that the operation's submission made. */
function* restoreDesire(tx: Transaction, row: OperationRow): TransactionScript<void> {
  const { desire_from, desire_to } = row;
  if (desire_from === null || desire_to === null) return;
  const later = yield* first(
    tx.cached("operation.later-desire", { key: row.serial_key, seq: row.seq }, (db, p) =>
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
  // The change of a later operation stays. If that is cancelled too, it restores what was before this one.
  if (later) {
    yield* updateOperation(tx, later, { desire_from });
    return;
  }
  const instance = yield* instanceRow(tx, row.owner, row.serial_key as `vm_${string}`);
  if (instance.state !== "deleted" && instance.desired === desire_to) {
    yield* patchInstance(tx, instance, { desired: desire_from });
  }
}
