// The sweep: wakes what was stranded, and removes what no record names any more: images, logs, blobs, caches.

import { everyItem } from "@formation-mcp/base";
import { FormationError, type Id, isHeard, LIMITS, type Operation, quietly } from "@formation-mcp/contract";
import { hasLogRecord } from "@formation-mcp/operations";
import type { Room } from "../deps.ts";

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
  room: Room,
  building: () => boolean,
  tell: (operation: Operation) => Promise<void>,
  stopping: () => boolean,
): Sweeper {
  const { shared } = room.artifacts;
  const sweepImages = createImageSweep(room, building);
  let count = 0;
  return {
    async run() {
      const all = count++ % ALL_EVERY === 0;
      const turn = await isOurTurn(room).catch(() => true);
      let removed = 0;
      if (turn) {
        await quietly(room.logger, "sweep the records", async () => {
          removed = await sweepRecords(room, tell, stopping);
        });
      }
      if (removed > 0 || (shared ? turn : all)) {
        await quietly(room.logger, "remove images that nothing needs", sweepImages);
      }
      await quietly(room.logger, "trim the caches", () => room.builder.trim(room.settings.cacheBudgetBytes));
      if (!turn) return;
      await quietly(room.logger, "collect artifacts", async () =>
        room.artifacts.collect(await room.store.artifactRoots(), room.settings.artifactKeptMs),
      );
      // What all share servers compare with the records.
      if (all && !shared) await quietly(room.logger, "remove old logs", () => sweepLogs(room));
      await quietly(room.logger, "sweep the queue", () => room.queue.sweep());
    },
  };
}

/** Whether this node is among those whose turn it is: each node's comes, so that one that can't is not waited for long. */
async function isOurTurn({ store, node, clock, settings }: Room): Promise<boolean> {
  const heard = (await store.nodes()).filter((each) => isHeard(each, clock.now()));
  const rank = heard.findIndex(({ id }) => id === node.id);
  if (rank < 0 || heard.length <= SWEEPERS) return true;
  const first = (Math.floor(clock.now() / settings.sweepEveryMs) * SWEEPERS) % heard.length;
  return (rank - first + heard.length) % heard.length < SWEEPERS;
}

/** Returns how many builds it removed. */
async function sweepRecords(
  room: Room,
  tell: (operation: Operation) => Promise<void>,
  stopping: () => boolean,
): Promise<number> {
  const { operationKeptMs, strandedMs, unusedBuildKeptMs } = room.settings;
  const swept = await room.store.sweep({ operationKeptMs, strandedMs, unusedBuildKeptMs });
  for (const operation of swept.resend) {
    if (stopping()) break;
    const message = { v: 1, operation_id: operation.id } as const;
    const id = `${operation.id}.${operation.send}`;
    try {
      await room.queue.publish(operation.subject, id, message);
    } catch (thrown) {
      // The queue has had its patience with the first: with hundreds it would be minutes. The next sweep sends them again.
      if (FormationError.from(thrown).code === "unavailable") break;
      await tell(operation);
    }
  }
  for (const operation of swept.changed) {
    room.announcer.changed(operation.owner, operation.id, operation.target_id);
  }
  for (const build of swept.removedBuilds) {
    await quietly(room.logger, "remove a build's log", () => room.logs.remove(build.id));
  }
  return swept.removedBuilds.length;
}

/**
 * Removes images of builds that are gone, and of attempts that were never written down. All builds are looked through only
 * where it is not known of an image here which build names it.
 */
function createImageSweep(room: Room, building: () => boolean): () => Promise<void> {
  /** What was here when it was last looked at. */
  let before = new Set<string>();
  /** A build that named the image when it was last looked at. */
  let namedBy = new Map<string, Id<"bld">>();
  const isNamed = async (digest: string) => {
    const id = namedBy.get(digest);
    if (id === undefined) return false;
    const build = await room.store.build(null, id).catch(unlessGone);
    return build?.image?.digest === digest;
  };
  const lookThrough = async (digests: ReadonlySet<string>) => {
    const found = new Map<string, Id<"bld">>();
    const builds = everyItem((cursor) => room.store.builds({ owner: null, limit: LIMITS.pageSize, cursor }));
    for await (const { id, image } of builds)
      if (image && digests.has(image.digest)) found.set(image.digest, id);
    namedBy = found;
  };
  return async () => {
    const held = room.held.watch();
    const here = (await room.builder.images()).map(({ digest }) => digest);
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
        await quietly(room.logger, `remove ${digest}`, () => room.held.remove(digest));
    }
  };
}

function unlessGone(error: unknown): null {
  if (error instanceof FormationError && error.code === "not_found") return null;
  throw error;
}

async function sweepLogs(room: Room): Promise<void> {
  for (const name of await room.artifacts.logNames()) {
    if (!(await hasLogRecord(room.store, name))) await room.logs.remove(name);
  }
}
