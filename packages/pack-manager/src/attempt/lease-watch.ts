// The watch over one attempt: renews its lease, sees cancel requests and the deadline, and says when to end and why.

import { FormationError, type Operation } from "@formation-mcp/contract";
import type { Lease } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";
import type { EndReason } from "./outcome.ts";

export interface LeaseWatch {
  /** Aborts when the attempt is to end, for whatever reason. */
  readonly signal: AbortSignal;
  /** Aborts only when the lease is void: from then on nothing may be written or made. */
  readonly lost: AbortSignal;
  /** Aborts when the worker leaves: from then on nothing may be waited for. */
  readonly leaving: AbortSignal;
  /** Why it is to end; null while it may go on. */
  readonly reason: EndReason | null;
  /** The operation as last read. */
  readonly operation: Operation;
  /** Milliseconds for which the attempt may go on unless it is renewed: half a lease. With none left it ends at once. */
  sureMs(): number;
  /** Calls back after each renewal. */
  onRenewed(listener: () => void): void;
  end(reason: EndReason): void;
  /** Asks the store soon whether a cancel was requested. */
  look(): void;
  stop(): void;
}

const LOOK_EVERY_MS = 500;

/** @param claimedAt when the claim was asked for, by the room's monotonic clock: its lease lasts from then at least. */
export function watchLease(
  deps: Pick<WorkerDeps, "store" | "clock" | "monotonic" | "settings" | "logger">,
  operation: Operation,
  lease: Lease,
  claimedAt: number,
): LeaseWatch {
  const { store, clock, monotonic, settings, logger } = deps;
  const ending = new AbortController();
  const losing = new AbortController();
  const leaving = new AbortController();
  let reason: EndReason | null = null;
  let latest = operation;
  let renewedAt = claimedAt;
  let renewed: () => void = () => {};
  let renewing = false;
  /** A renewal that failed is tried again soon: waiting for the next would outlast half the lease. */
  let again: NodeJS.Timeout | undefined;
  let stopped = false;
  let looking = false;
  let revision = store.revision();

  const end = (why: EndReason) => {
    if (why === "lost") losing.abort();
    if (why === "shutdown") leaving.abort();
    // A lost lease outweighs whatever ended it before: nothing may be written then.
    if (reason === null || why === "lost") reason = why;
    ending.abort(new FormationError("cancelled", `The attempt ends: ${why}.`));
  };
  const take = (read: Operation) => {
    latest = read;
    const ours = read.state === "running" && read.attempt === lease.attempt;
    if (!ours) end("lost");
    else if (read.cancel_requested_at !== null && reason === null) {
      // Past the deadline the store asks for a cancel by itself.
      end(clock.now() >= read.deadline_at ? "deadline" : "cancel");
    }
  };
  const renew = async () => {
    if (renewing || stopped || losing.signal.aborted) return;
    renewing = true;
    const asked = monotonic();
    try {
      take(await store.renew(lease, settings.leaseMs));
      renewedAt = asked;
      if (sureMs() > 0) renewed();
    } catch (thrown) {
      const error = FormationError.from(thrown);
      logger.log("warn", `A lease was not renewed: ${error.message}`, { operation: lease.operation_id });
      if (error.code === "conflict" || error.code === "not_found") end("lost");
      else again = setTimeout(() => void renew(), settings.leaseMs / 20);
    } finally {
      renewing = false;
    }
  };
  const sureMs = () => {
    const left = renewedAt + settings.leaseMs / 2 - monotonic();
    if (left <= 0 && !stopped) end("lost");
    return Math.max(0, left);
  };
  const look = async () => {
    if (looking || losing.signal.aborted) return;
    looking = true;
    try {
      take(await store.operation(null, lease.operation_id));
    } catch {
      // The next renewal tells.
    } finally {
      looking = false;
    }
  };
  const glance = () => {
    const now = store.revision();
    if (now === revision) return;
    revision = now;
    void look();
  };

  const timers = [
    setInterval(() => {
      sureMs();
      void renew();
    }, settings.leaseMs / 3),
    setInterval(sureMs, settings.leaseMs / 10),
    setInterval(glance, LOOK_EVERY_MS),
  ];
  const left = Math.min(Math.max(0, operation.deadline_at - clock.now()), 2 ** 31 - 1);
  const deadline = setTimeout(() => end("deadline"), left);
  if (operation.cancel_requested_at !== null) end("cancel");

  return {
    signal: ending.signal,
    lost: losing.signal,
    leaving: leaving.signal,
    get reason() {
      return reason;
    },
    get operation() {
      return latest;
    },
    sureMs,
    onRenewed(listener) {
      renewed = listener;
    },
    end,
    look: () => void look(),
    stop() {
      for (const timer of timers) clearInterval(timer);
      clearTimeout(deadline);
      clearTimeout(again);
      stopped = true;
    },
  };
}
