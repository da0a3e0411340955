// Watches over one attempt: renews its lease, sees cancel requests and the deadline, and says when and why
// the attempt is to end.

import type { Operation } from "@formation-mcp/contract";
import type { Lease } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import { createEndSignals, type EndSignals } from "./end-signals.ts";
import { type LeaseRenewal, startLeaseRenewal } from "./lease-renewal.ts";

export interface LeaseWatch extends EndSignals, LeaseRenewal {
  /** The operation as last read. */
  readonly operation: Operation;
  /** Reads the operation soon: it may have been cancelled. */
  refresh(): void;
}

/** How often the store's revision is compared, to see changes of the operation. */
const REVISION_CHECK_MS = 500;
/** The longest delay that setTimeout takes; a longer one fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** @param claimedAt when the claim was sent, by the monotonic clock. */
export function watchLease(
  deps: Pick<WorkerDeps, "store" | "clock" | "monotonic" | "settings" | "logger">,
  operation: Operation,
  lease: Lease,
  claimedAt: number,
): LeaseWatch {
  const { store, clock } = deps;
  const signals = createEndSignals();
  let latest = operation;
  let isReading = false;
  let revision = store.revision();

  const onRead = (read: Operation) => {
    latest = read;
    const isOurs = read.state === "running" && read.attempt === lease.attempt;
    if (!isOurs) signals.end("lost");
    else if (read.cancel_requested_at !== null && signals.reason === null) {
      // After the deadline the store requests a cancel by itself.
      signals.end(clock.now() >= read.deadline_at ? "deadline" : "cancel");
    }
  };
  const refresh = async () => {
    if (isReading || signals.lost.aborted) return;
    isReading = true;
    try {
      onRead(await store.operation(null, lease.operation_id));
    } catch {
      // The next renewal of the lease reads the operation too.
    } finally {
      isReading = false;
    }
  };
  const refreshIfChanged = () => {
    const now = store.revision();
    if (now === revision) return;
    revision = now;
    void refresh();
  };

  const renewal = startLeaseRenewal(deps, { lease, claimedAt, signals, onRead });
  const revisionCheck = setInterval(refreshIfChanged, REVISION_CHECK_MS);
  const left = Math.min(Math.max(0, operation.deadline_at - clock.now()), MAX_TIMER_MS);
  const deadline = setTimeout(() => signals.end("deadline"), left);
  if (operation.cancel_requested_at !== null) signals.end("cancel");

  return {
    signal: signals.signal,
    lost: signals.lost,
    leaving: signals.leaving,
    get reason() {
      return signals.reason;
    },
    get operation() {
      return latest;
    },
    end: signals.end,
    sureMs: renewal.sureMs,
    onRenewed: renewal.onRenewed,
    refresh: () => void refresh(),
    stop() {
      renewal.stop();
      clearInterval(revisionCheck);
      clearTimeout(deadline);
    },
  };
}
