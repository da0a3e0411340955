// How quotas meet a call: what is counted by the minute is spent here, what is held at once is checked by the store in
// the transaction that takes it.

import { FormationError, type Quota } from "@formation-mcp/contract";
import type { Submission } from "@formation-mcp/operations";
import type { Deps } from "./deps.ts";

const MINUTE = 60_000;

/**
 * Counts an operation that somebody starts, whomever it is about.
 * @throws FormationError `limit` with the seconds to wait.
 */
export async function spendOperation({ quotas, counters, clock }: Deps, owner: string): Promise<void> {
  const limit = (await quotas?.of(owner))?.operations_per_minute ?? null;
  if (limit === null || counters === null) return;
  const { granted, resets_at } = await counters.spend({
    key: `operations ${owner}`,
    limit,
    windowMs: MINUTE,
    amount: 1,
  });
  if (granted === 1) return;
  const seconds = Math.min(60, Math.max(1, Math.ceil((resets_at - clock.now()) / 1000)));
  throw new FormationError("limit", `${limit} operations per minute may be started, and they were.`, {
    remedy: limit === 0 ? "Ask the operator for more." : `Try again in ${seconds} s.`,
  });
}

/** What the owner of a submission may have at once, if it takes anything; what only gives back is always taken. */
export async function quotaFor({ quotas }: Deps, { operation }: Submission): Promise<Quota | null> {
  const { input, owner } = operation;
  const takes =
    input.kind === "build" || input.kind === "ship" || (input.kind === "control" && input.action === "start");
  return takes && quotas ? quotas.of(owner) : null;
}
