// Operations that an earlier process of this node left running: their attempts are undone, and then given
// back to the queue or ended.

import { everyItem } from "@formation-mcp/base";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import type { RunningAttempts } from "./running-attempts.ts";

export async function adoptOrphans(deps: WorkerDeps, attempts: RunningAttempts): Promise<void> {
  const running = everyItem((cursor) =>
    deps.store.operations({ owner: null, states: ["running"], limit: LIMITS.pageSize, cursor }),
  );
  for await (const operation of running) {
    if (operation.claimed_by !== deps.node.id) continue;
    deps.logger.log("info", "An operation was left running by an earlier process of this worker.", {
      operation: operation.id,
      attempt: operation.attempt,
    });
    attempts.start(operation, deps.monotonic(), orphaned());
  }
}

function orphaned(): FormationError {
  return new FormationError("unavailable", "The worker ended while it ran this operation.", {
    remedy: "Look at the worker's log; if the host was rebooted or ran out of memory, just try again.",
  });
}
