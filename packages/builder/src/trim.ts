// Keeps the caches within a budget: disks go first, least recently used first, for they are quickly made again; then the
// layers that no kept image needs.

import { rmSync } from "node:fs";
import type { Cleaner } from "./clean.ts";
import type { Disks } from "./disk.ts";
import type { Store } from "./store.ts";

/** Removes until disks and unused layers together fit into the budget. Returns the bytes freed. */
export async function trim(
  store: Store,
  disks: Disks,
  cleaner: Cleaner,
  budgetBytes: number,
): Promise<number> {
  const unusedLayers = () =>
    store.sizes(store.images().filter((image) => image.names.length > 0)).unusedBytes;
  const layers = unusedLayers();
  let total = layers;
  const all = disks.list();
  for (const disk of all) total += disk.bytes;
  let freed = 0;
  for (const disk of all) {
    if (total - freed <= budgetBytes) return freed;
    rmSync(disk.path, { force: true });
    freed += disk.bytes;
  }
  if (total - freed <= budgetBytes) return freed;
  // A layer that a build has just made has no name yet, so nothing is pruned while one runs.
  await cleaner.whenIdle(() => store.run(["rmi", "--prune", "--force"], { timeoutMs: 300_000 }));
  return freed + Math.max(0, layers - unusedLayers());
}
