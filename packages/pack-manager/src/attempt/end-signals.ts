// Why an attempt is to end, and the signals that tell its work.

import { FormationError } from "@formation-mcp/contract";
import type { EndReason } from "./outcome.ts";

export interface EndSignals {
  /** Aborts when the attempt is to end, for whatever reason. */
  readonly signal: AbortSignal;
  /** Aborts only when the lease is void: from then on nothing may be written or made. */
  readonly lost: AbortSignal;
  /** Aborts when the worker leaves: from then on nothing may be waited for. */
  readonly leaving: AbortSignal;
  /** Why the attempt is to end; null while it may go on. */
  readonly reason: EndReason | null;
  /** Ends the attempt. The first reason counts, unless a later one is `lost`. */
  end(reason: EndReason): void;
}

export function createEndSignals(): EndSignals {
  const ending = new AbortController();
  const losing = new AbortController();
  const leaving = new AbortController();
  let reason: EndReason | null = null;
  return {
    signal: ending.signal,
    lost: losing.signal,
    leaving: leaving.signal,
    get reason() {
      return reason;
    },
    end(why) {
      if (why === "lost") losing.abort();
      if (why === "shutdown") leaving.abort();
      // With a void lease nothing may be written, whatever ended the attempt before.
      if (reason === null || why === "lost") reason = why;
      ending.abort(new FormationError("cancelled", `The attempt ends: ${why}.`));
    },
  };
}
