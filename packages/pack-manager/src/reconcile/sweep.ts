// The sweep: sends the wake-ups of stranded operations again, and removes images, logs, blobs and cache
// entries that no record needs.

import { everyItem } from "@formation-mcp/base";
import { FormationError, type Id, isHeard, LIMITS, type Operation, quietly } from "@formation-mcp/contract";
import { hasLogRecord } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";

export interface Sweeper {
  /** Sweeps everything once. A part that fails is logged, and done again by the next sweep. */
  run(): Promise<void>;
}

/** One sweep in so many compares all logs and images with the records; the others only removed builds. */
const SWEEPS_PER_FULL_SWEEP = 12;
/** How many nodes sweep the shared records in one period. More of them would only do the same work again. */
const SWEEPING_NODES = 3;

export interface SweepOptions {
  /** Whether an attempt runs whose image may be here before any record or hold names it. */
  mayAddImages(): boolean;
  /** Offers an operation to the nodes. For workers whose queue account may send events but no wake-ups. */
  offer(operation: Operation): Promise<void>;
  /** Whether the worker stops: it waits for a sweep that runs. */
  isStopping(): boolean;
}

export function createSweeper(deps: WorkerDeps, options: SweepOptions): Sweeper {
  const { shared } = deps.artifacts;
  const sweepImages = createImageSweep(deps, options.mayAddImages);
  let count = 0;
  return {
    async run() {
      const isFull = count++ % SWEEPS_PER_FULL_SWEEP === 0;
      const turn = await isOurTurn(deps).catch(() => true);
      let removed = 0;
      if (turn) {
        await quietly(deps.logger, "sweep the records", async () => {
          removed = await sweepRecords(deps, options);
        });
      }
      if (removed > 0 || (shared ? turn : isFull)) {
        await quietly(deps.logger, "remove images that nothing needs", sweepImages);
      }
      await quietly(deps.logger, "trim the caches", () => deps.builder.trim(deps.settings.cacheBudgetBytes));
      if (!turn) return;
      await quietly(deps.logger, "collect artifacts", async () =>
        deps.artifacts.collect(await deps.store.artifactRoots(), deps.settings.artifactKeptMs),
      );
      // Servers compare shared logs with the records.
      if (isFull && !shared) await quietly(deps.logger, "remove old logs", () => sweepLogs(deps));
      await quietly(deps.logger, "sweep the queue", () => deps.queue.sweep());
    },
  };
}

/**
 * Whether this node sweeps the shared records in this period. The nodes take turns, so that one which can't
 * sweep delays the sweep for a short time only.
 */
async function isOurTurn({ store, node, clock, settings }: WorkerDeps): Promise<boolean> {
  const live = (await store.nodes()).filter((each) => isHeard(each, clock.now()));
  const rank = live.findIndex(({ id }) => id === node.id);
  if (rank < 0 || live.length <= SWEEPING_NODES) return true;
  const first = (Math.floor(clock.now() / settings.sweepEveryMs) * SWEEPING_NODES) % live.length;
  return (rank - first + live.length) % live.length < SWEEPING_NODES;
}

/** @returns how many builds it removed. */
async function sweepRecords(deps: WorkerDeps, { offer, isStopping }: SweepOptions): Promise<number> {
  const { operationKeptMs, strandedMs, unusedBuildKeptMs } = deps.settings;
  const swept = await deps.store.sweep({ operationKeptMs, strandedMs, unusedBuildKeptMs });
  for (const operation of swept.resend) {
    if (isStopping()) break;
    const message = { v: 1, operation_id: operation.id } as const;
    const id = `${operation.id}.${operation.send}`;
    try {
      await deps.queue.publish(operation.subject, id, message);
    } catch (thrown) {
      // Each try waits for the queue; with hundreds that takes minutes. The next sweep sends them again.
      if (FormationError.from(thrown).code === "unavailable") break;
      await offer(operation);
    }
  }
  for (const operation of swept.changed) {
    deps.announcer.changed(operation.owner, operation.id, operation.target_id);
  }
  for (const build of swept.removedBuilds) {
    await quietly(deps.logger, "remove a build's log", () => deps.logs.remove(build.id));
  }
  return swept.removedBuilds.length;
}

/**
 * Removes the images of removed builds, and those of attempts that no record names. Reads all builds only if
 * there is an image here of which no known build names it.
 */
function createImageSweep(deps: WorkerDeps, mayAddImages: () => boolean): () => Promise<void> {
  /** The images that were here at the last sweep. */
  let before = new Set<string>();
  /** For each image a build that named it when all builds were last read. */
  let namedBy = new Map<string, Id<"bld">>();
  const isNamed = async (digest: string) => {
    const id = namedBy.get(digest);
    if (id === undefined) return false;
    const build = await deps.store.build(null, id).catch(nullIfGone);
    return build?.image?.digest === digest;
  };
  const readAllBuilds = async (digests: ReadonlySet<string>) => {
    const found = new Map<string, Id<"bld">>();
    const builds = everyItem((cursor) => deps.store.builds({ owner: null, limit: LIMITS.pageSize, cursor }));
    for await (const { id, image } of builds)
      if (image && digests.has(image.digest)) found.set(image.digest, id);
    namedBy = found;
  };
  return async () => {
    const held = deps.imageHolds.watch();
    const here = (await deps.builder.images()).map(({ digest }) => digest);
    // An image that came since may be the one of a build that is about to end.
    const removable = mayAddImages() ? here.filter((digest) => before.has(digest)) : here;
    before = new Set(here);
    const digests = new Set(removable.filter((digest) => !held.has(digest)));
    let known = true;
    for (const digest of digests) known &&= await isNamed(digest);
    if (known) return;
    await readAllBuilds(digests);
    for (const digest of digests) {
      if (!namedBy.has(digest))
        await quietly(deps.logger, `remove ${digest}`, () => deps.imageHolds.remove(digest));
    }
  };
}

function nullIfGone(error: unknown): null {
  if (error instanceof FormationError && error.code === "not_found") return null;
  throw error;
}

async function sweepLogs(deps: WorkerDeps): Promise<void> {
  for (const name of await deps.artifacts.logNames()) {
    if (!(await hasLogRecord(deps.store, name))) await deps.logs.remove(name);
  }
}
