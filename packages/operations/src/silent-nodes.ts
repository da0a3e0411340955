// Who looks for silent nodes, and when he may believe his eyes: while nobody could reach the store, all nodes were silent.

import type { Instance } from "@formation-mcp/contract";
import type { Store } from "./port.ts";

/**
 * Returns what marks the instances of silent nodes as lost ({@link Store.markLost}), to be called again and again, less often
 * than nodes send heartbeats. The first call finds nobody out, and neither does the first that reaches the store after one
 * that did not: by the next one every node that lives has been heard.
 */
export function lookForSilent(store: Pick<Store, "markLost">, silentMs: number): () => Promise<Instance[]> {
  let sure = false;
  return async () => {
    const believed = sure;
    sure = false;
    const lost = await store.markLost(believed ? silentMs : Number.MAX_SAFE_INTEGER);
    sure = true;
    return lost;
  };
}
