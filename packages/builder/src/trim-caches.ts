// Trims the caches to a budget. Disks go first, because they are quick to make again; then the layers that no
// kept image needs and those of failed pulls; then the bases. Within each kind, the least recently used go
// first. Images of builds are never removed.

import { rmSync } from "node:fs";
import { join } from "node:path";
import type { BuildCleanup } from "./cleanup.ts";
import type { Disks } from "./disks.ts";
import type { ImageStore } from "./image-store.ts";
import { isNearlyFull } from "./limit-watch.ts";

const TRIM_TIMEOUT = { timeoutMs: 300_000 };
/** A number of arguments that always fits on a command line. */
const MAX_ARGUMENTS = 200;

/**
 * Removes disks and unused layers until they fit the budget, or all of them if the node's free space is near
 * its reserve. Returns the bytes freed.
 */
export async function trimCaches(
  store: ImageStore,
  disks: Disks,
  cleanup: BuildCleanup,
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
  // Only while no build runs: a layer that a build has just made has no name yet, and a base may be in use
  // soon.
  await cleanup.whenIdle(async () => {
    await store.run(["rmi", "--prune", "--force"], TRIM_TIMEOUT);
    await removeStrayLayers(store);
    for (const base of store.bases()) {
      if (diskBytes + layers() <= budgetBytes) break;
      await store.run(["rmi", ...base.names], TRIM_TIMEOUT);
      rmSync(join(store.settings.places.bases, base.id), { force: true });
    }
  });
  return freed + Math.max(0, layersBefore - layers());
}

/**
 * buildah removes images with their layers, but has no command to remove a layer that belongs to no image.
 */
async function removeStrayLayers(store: ImageStore): Promise<void> {
  const strays = store.strayLayers();
  for (let from = 0; from < strays.length; from += MAX_ARGUMENTS) {
    const { code, stderr } = await store.script(
      'root=$1 run=$2; shift 2; exec containers-storage delete-layer --graph "$root" --run "$run" --storage-driver overlay "$@"',
      [store.settings.places.root, store.settings.places.run, ...strays.slice(from, from + MAX_ARGUMENTS)],
      TRIM_TIMEOUT,
    );
    if (code === 0) continue;
    const reason = code === 127 ? "containers-storage is not installed" : stderr.trim().slice(-500);
    store.settings.logger.log("warn", "layers of no image stay", { layers: strays.length, reason });
    return;
  }
}
