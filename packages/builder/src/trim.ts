// Keeps the caches within a budget: disks go first, for they are quickly made again, then the layers that no kept image
// needs and those that failed pulls left, then the bases; each of them least recently used first. What builds made is never touched.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { Cleaner } from "./clean.ts";
import type { Disks } from "./disk.ts";
import type { Store } from "./image-store.ts";
import { isNearlyFull } from "./watch.ts";

const LIMIT = { timeoutMs: 300_000 };
/** As many arguments as a command line holds with ease. */
const AT_ONCE = 200;

/**
 * Removes until disks and the layers that no build's image needs fit into the budget, or all of them where the node comes near
 * its reserve. Returns the bytes freed.
 */
export async function trim(
  store: Store,
  disks: Disks,
  cleaner: Cleaner,
  wantedBytes: number,
): Promise<number> {
  const { stateDir, reserveBytes } = store.settings;
  const budgetBytes = isNearlyFull({ stateDir, reserveBytes: 2 * reserveBytes }) ? 0 : wantedBytes;
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
    await removeStrays(store);
    for (const base of store.bases()) {
      if (diskBytes + layers() <= budgetBytes) break;
      await store.run(["rmi", ...base.names], LIMIT);
      rmSync(join(store.settings.places.bases, base.id), { force: true });
    }
  });
  return freed + Math.max(0, layersBefore - layers());
}

/** buildah removes images, and with them their layers; it has no word for a layer of no image. */
async function removeStrays(store: Store): Promise<void> {
  const strays = store.strayLayers();
  for (let from = 0; from < strays.length; from += AT_ONCE) {
    const { code, stderr } = await store.script(
      'root=$1 run=$2; shift 2; exec containers-storage delete-layer --graph "$root" --run "$run" --storage-driver overlay "$@"',
      [store.settings.places.root, store.settings.places.run, ...strays.slice(from, from + AT_ONCE)],
      LIMIT,
    );
    if (code === 0) continue;
    const reason = code === 127 ? "containers-storage is not installed" : stderr.trim().slice(-500);
    store.settings.logger.log("warn", "layers of no image stay", { layers: strays.length, reason });
    return;
  }
}
