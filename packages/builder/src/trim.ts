// Keeps the caches within a budget: disks go first, for they are quickly made again, then the layers that no kept image
// needs, then the bases; each of them least recently used first. What builds made is never touched.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Cleaner } from "./clean.ts";
import type { Disks } from "./disk.ts";
import type { Store } from "./store.ts";

const LIMIT = { timeoutMs: 300_000 };

/** Removes until disks and the layers that no build's image needs fit into the budget. Returns the bytes freed. */
export async function trim(
  store: Store,
  disks: Disks,
  cleaner: Cleaner,
  budgetBytes: number,
): Promise<number> {
  const layers = () => store.sizes(store.own()).unusedBytes;
  const layersBefore = layers();
  const all = disks.list();
  let diskBytes = all.reduce((sum, disk) => sum + disk.bytes, 0);
  let freed = 0;
  for (const disk of all) {
    if (diskBytes + layersBefore <= budgetBytes) break;
    rmSync(disk.path, { force: true });
    diskBytes -= disk.bytes;
    freed += disk.bytes;
  }
  if (diskBytes + layersBefore <= budgetBytes) return freed;
  // A layer that a build has just made has no name yet, and a base may be about to be used: only while none runs.
  await cleaner.whenIdle(async () => {
    await store.run(["rmi", "--prune", "--force"], LIMIT);
    for (const base of store.bases()) {
      if (diskBytes + layers() <= budgetBytes) break;
      await store.run(["rmi", ...base.names], LIMIT);
      rmSync(join(store.settings.places.bases, base.id), { force: true });
    }
  });
  return freed + Math.max(0, layersBefore - layers());
}
