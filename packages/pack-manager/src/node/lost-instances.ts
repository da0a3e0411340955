// Marks the instances of silent nodes as lost, and announces them.

import { createSilentNodeCheck } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";

/** Returns the check; call it from time to time. */
export function createLostInstanceCheck(
  deps: Pick<WorkerDeps, "store" | "settings" | "logger" | "announcer">,
): () => Promise<void> {
  const checkNodes = createSilentNodeCheck(deps.store, deps.settings.nodeSilentMs);
  return async () => {
    for (const { owner, id } of await checkNodes()) {
      deps.logger.log("warn", "An instance is lost: its node fell silent.", { instance: id });
      deps.announcer.changed(owner, id);
    }
  };
}
