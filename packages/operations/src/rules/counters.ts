// Fixed-window rate counters that all processes share: one row per key, overwritten when its window is over.

import { type Counters, FormationError } from "@formation-mcp/contract";
import { first, run, type Transaction, type TransactionScript } from "../sql/script.ts";

type Spending = Parameters<Counters["spend"]>[0];

/**
 * Takes up to `amount` from what is left of `limit` in the current window.
 * @throws FormationError `invalid`
 */
export function* spend(
  tx: Transaction,
  { key, limit, windowMs, amount }: Spending,
): TransactionScript<{ granted: number; resets_at: number }> {
  checkWhole({ limit, windowMs, amount });
  const window = tx.now - (tx.now % windowMs);
  const resets_at = window + windowMs;
  const row = yield* first(
    tx.cached("counter", { key }, (db, p) =>
      tx.locks.forUpdate(
        db.selectFrom("counters").select(["window_start", "spent"]).where("key", "=", p.key),
      ),
    ),
  );
  // A transaction that waited for the lock past the end of its window counts in the window that another one
  // has begun. A row from the far future was written with a wrong clock.
  const isCurrent = row !== undefined && row.window_start >= window && row.window_start <= resets_at;
  const spent = isCurrent ? row.spent : 0;
  const granted = Math.max(0, Math.min(amount, limit - spent));
  if (granted === 0) return { granted, resets_at };
  const set = {
    window_start: isCurrent ? row.window_start : window,
    spent: spent + granted,
    expires_at: resets_at,
  };
  yield* run(
    row
      ? tx.cached("counter.set", { ...set, _key: key }, (db, { _key, ...p }) =>
          db.updateTable("counters").set(p).where("key", "=", _key),
        )
      : tx.cached("counter.add", { key, ...set }, (db, p) => db.insertInto("counters").values(p)),
  );
  return { granted, resets_at };
}

/** @throws FormationError `invalid` unless all are whole numbers and not negative. */
function checkWhole(numbers: Record<"limit" | "windowMs" | "amount", number>): void {
  for (const [field, value] of Object.entries(numbers)) {
    if (!Number.isSafeInteger(value) || value < (field === "windowMs" ? 1 : 0)) {
      throw new FormationError("invalid", `${field} is no whole number that can be counted with.`, { field });
    }
  }
}
