// The renewal of one attempt's lease. The attempt trusts its lease for half of its length only: until then
// no other attempt can begin, even if this process was frozen for a while.

import { FormationError, type Operation } from "@formation-mcp/contract";
import type { Lease } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import type { EndSignals } from "./end-signals.ts";

export interface LeaseRenewal {
  /**
   * Milliseconds for which the attempt may go on unless the lease is renewed. With none left it ends the
   * attempt.
   */
  sureMs(): number;
  /** Calls back after each renewal. */
  onRenewed(listener: () => void): void;
  stop(): void;
}

export interface LeaseRenewalOptions {
  lease: Lease;
  /** When the claim was sent, by the monotonic clock: the lease lasts at least from then. */
  claimedAt: number;
  signals: EndSignals;
  /** Called with the operation as the store returns it. */
  onRead(operation: Operation): void;
}

export function startLeaseRenewal(
  deps: Pick<WorkerDeps, "store" | "monotonic" | "settings" | "logger">,
  { lease, claimedAt, signals, onRead }: LeaseRenewalOptions,
): LeaseRenewal {
  const { store, monotonic, logger } = deps;
  const { leaseMs } = deps.settings;
  let renewedAt = claimedAt;
  let isRenewing = false;
  let isStopped = false;
  let onRenewed: () => void = () => {};
  let retry: NodeJS.Timeout | undefined;

  const sureMs = () => {
    const left = renewedAt + leaseMs / 2 - monotonic();
    if (left <= 0 && !isStopped) signals.end("lost");
    return Math.max(0, left);
  };
  const renew = async () => {
    if (isRenewing || isStopped || signals.lost.aborted) return;
    isRenewing = true;
    const sentAt = monotonic();
    try {
      onRead(await store.renew(lease, leaseMs));
      renewedAt = sentAt;
      if (sureMs() > 0) onRenewed();
    } catch (thrown) {
      const error = FormationError.from(thrown);
      logger.log("warn", `A lease was not renewed: ${error.message}`, { operation: lease.operation_id });
      if (error.code === "conflict" || error.code === "not_found") signals.end("lost");
      // The next regular renewal would come when half of the lease is over.
      else retry = setTimeout(() => void renew(), leaseMs / 20);
    } finally {
      isRenewing = false;
    }
  };
  const timers = [
    setInterval(() => {
      sureMs();
      void renew();
    }, leaseMs / 3),
    setInterval(sureMs, leaseMs / 10),
  ];
  return {
    sureMs,
    onRenewed(listener) {
      onRenewed = listener;
    },
    stop() {
      for (const timer of timers) clearInterval(timer);
      clearTimeout(retry);
      isStopped = true;
    },
  };
}
