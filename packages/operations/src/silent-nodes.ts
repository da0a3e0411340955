// When a process may take a node's silence for a failure: not while the store could not be reached, because
// then every node is silent.

import type { Instance } from "@formation-mcp/contract";
import type { Store } from "./port.ts";

/**
 * Makes a periodic check that marks the instances of silent nodes as lost ({@link Store.markLost}). It is to
 * be called less often than nodes send heartbeats. The first call, and the first that reaches the store after
 * one that did not, mark nothing: until the next one every live node has sent a heartbeat.
 */
export function createSilentNodeCheck(
  store: Pick<Store, "markLost">,
  silentMs: number,
): () => Promise<Instance[]> {
  let reachedBefore = false;
  return async () => {
    const limitMs = reachedBefore ? silentMs : Number.MAX_SAFE_INTEGER;
    reachedBefore = false;
    const lost = await store.markLost(limitMs);
    reachedBefore = true;
    return lost;
  };
}
