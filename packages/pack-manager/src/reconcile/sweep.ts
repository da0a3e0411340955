// The sweep: wakes what was stranded, and removes what no record names any more: images, logs, blobs, caches.

import { everyItem } from "@formation-mcp/base";
import { FormationError, type Id, isHeard, LIMITS, type Operation, quietly } from "@formation-mcp/contract";
import { hasLogRecord } from "@formation-mcp/operations";
import type { WorkerDeps } from "../deps.ts";

export interface Sweeper {
  /** Once through everything; what fails is told to the operator and comes again next time. */
  run(): Promise<void>;
}

/** Every so many sweeps all logs and images are compared with the records, not only those of what was just removed. */
const ALL_EVERY = 12;
/** So many nodes sweep what they share in one period: more would only meet each other. */
const SWEEPERS = 3;

/**
 * @param building whether a build runs here: its image is here before the builder says which one it is.
 * @param tell wakes nodes where the queue takes no wake-up from here: a worker may be allowed to send events alone.
 * @param stopping whether the worker stops, which waits for a sweep that runs.
 */
export function createSweeper(
  deps: WorkerDeps,
  building: () => boolean,
  tell: (operation: Operation) => Promise<void>,
  stopping: () => boolean,
): Sweeper {
  const { shared } = deps.artifacts;
  const sweepImages = createImageSweep(deps, building);
  let count = 0;
  return {
    async run() {
      const all = count++ % ALL_EVERY === 0;
      const turn = await isOurTurn(deps).catch(() => true);
      let removed = 0;
      if (turn) {
        await quietly(deps.logger, "sweep the records", async () => {
          removed = await sweepRecords(deps, tell, stopping);
        });
      }
      if (removed > 0 || (shared ? turn : all)) {
        await quietly(deps.logger, "remove images that nothing needs", sweepImages);
      }
      await quietly(deps.logger, "trim the caches", () => deps.builder.trim(deps.settings.cacheBudgetBytes));
      if (!turn) return;
      await quietly(deps.logger, "collect artifacts", async () =>
        deps.artifacts.collect(await deps.store.artifactRoots(), deps.settings.artifactKeptMs),
      );
      // What all share servers compare with the records.
      if (all && !shared) await quietly(deps.logger, "remove old logs", () => sweepLogs(deps));
      await quietly(deps.logger, "sweep the queue", () => deps.queue.sweep());
    },
  };
}

/** Whether this node is among those whose turn it is: each node's comes, so that one that can't is not waited for long. */
async function isOurTurn({ store, node, clock, settings }: WorkerDeps): Promise<boolean> {
  const heard = (await store.nodes()).filter((each) => isHeard(each, clock.now()));
  const rank = heard.findIndex(({ id }) => id === node.id);
  if (rank < 0 || heard.length <= SWEEPERS) return true;
  const first = (Math.floor(clock.now() / settings.sweepEveryMs) * SWEEPERS) % heard.length;
  return (rank - first + heard.length) % heard.length < SWEEPERS;
}

/** Returns how many builds it removed. */
async function sweepRecords(
  deps: WorkerDeps,
  tell: (operation: Operation) => Promise<void>,
  stopping: () => boolean,
): Promise<number> {
  const { operationKeptMs, strandedMs, unusedBuildKeptMs } = deps.settings;
  const swept = await deps.store.sweep({ operationKeptMs, strandedMs, unusedBuildKeptMs });
  for (const operation of swept.resend) {
    if (stopping()) break;
    const message = { v: 1, operation_id: operation.id } as const;
    const id = `${operation.id}.${operation.send}`;
    try {
      await deps.queue.publish(operation.subject, id, message);
    } catch (thrown) {
      // The queue has had its patience with the first: with hundreds it would be minutes. The next sweep sends them again.
      if (FormationError.from(thrown).code === "unavailable") break;
      await tell(operation);
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
 * Removes images of builds that are gone, and of attempts that were never written down. All builds are looked through only
 * where it is not known of an image here which build names it.
 */
function createImageSweep(deps: WorkerDeps, building: () => boolean): () => Promise<void> {
  /** What was here when it was last looked at. */
  let before = new Set<string>();
  /** A build that named the image when it was last looked at. */
  let namedBy = new Map<string, Id<"bld">>();
  const isNamed = async (digest: string) => {
    const id = namedBy.get(digest);
    if (id === undefined) return false;
    const build = await deps.store.build(null, id).catch(unlessGone);
    return build?.image?.digest === digest;
  };
  const lookThrough = async (digests: ReadonlySet<string>) => {
    const found = new Map<string, Id<"bld">>();
    const builds = everyItem((cursor) => deps.store.builds({ owner: null, limit: LIMITS.pageSize, cursor }));
    for await (const { id, image } of builds)
      if (image && digests.has(image.digest)) found.set(image.digest, id);
    namedBy = found;
  };
  return async () => {
    const held = deps.imageHolds.watch();
    const here = (await deps.builder.images()).map(({ digest }) => digest);
    // What came since may be what a build that runs is about to say that it made.
    const settled = building() ? here.filter((digest) => before.has(digest)) : here;
    before = new Set(here);
    const digests = new Set(settled.filter((digest) => !held.has(digest)));
    let known = true;
    for (const digest of digests) known &&= await isNamed(digest);
    if (known) return;
    await lookThrough(digests);
    for (const digest of digests) {
      if (!namedBy.has(digest))
        await quietly(deps.logger, `remove ${digest}`, () => deps.imageHolds.remove(digest));
    }
  };
}

function unlessGone(error: unknown): null {
  if (error instanceof FormationError && error.code === "not_found") return null;
  throw error;
}

async function sweepLogs(deps: WorkerDeps): Promise<void> {
  for (const name of await deps.artifacts.logNames()) {
    if (!(await hasLogRecord(deps.store, name))) await deps.logs.remove(name);
  }
}
