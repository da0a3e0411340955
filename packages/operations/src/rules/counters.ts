// Counting by windows that all processes share: one row for a key, overwritten when its window is over.

import { type Counters, FormationError } from "@formation-mcp/contract";
import { count, first, type Query, type Script } from "../sql/script.ts";

type Spending = Parameters<Counters["spend"]>[0];

export function* spend(
  q: Query,
  { key, limit, windowMs, amount }: Spending,
): Script<{ granted: number; resets_at: number }> {
  whole({ limit, windowMs, amount });
  const window = q.now - (q.now % windowMs);
  const resets_at = window + windowMs;
  const row = yield* first(
    q.cached("counter", { key }, (db, p) =>
      q.locks.wait(db.selectFrom("counters").select(["window_start", "spent"]).where("key", "=", p.key)),
    ),
  );
  // Who waited for the lock over the end of a window counts in the one that has begun, and must not begin the old one anew;
  // a row from the far future is of a clock that was wrong.
  const stands = row !== undefined && row.window_start >= window && row.window_start <= resets_at;
  const spent = stands ? row.spent : 0;
  const granted = Math.max(0, Math.min(amount, limit - spent));
  if (granted === 0) return { granted, resets_at };
  const set = {
    window_start: stands ? row.window_start : window,
    spent: spent + granted,
    expires_at: resets_at,
  };
  yield* count(
    row
      ? q.cached("counter.set", { ...set, _key: key }, (db, { _key, ...p }) =>
          db.updateTable("counters").set(p).where("key", "=", _key),
        )
      : q.cached("counter.add", { key, ...set }, (db, p) => db.insertInto("counters").values(p)),
  );
  return { granted, resets_at };
}

function whole(numbers: Record<"limit" | "windowMs" | "amount", number>): void {
  for (const [field, value] of Object.entries(numbers)) {
    if (!Number.isSafeInteger(value) || value < (field === "windowMs" ? 1 : 0)) {
      throw new FormationError("invalid", `${field} is no whole number that can be counted with.`, { field });
    }
  }
}
