// What servers see to by themselves, whoever calls and whether any worker lives: operations end at their deadlines, lost
// wake-ups are sent again, what expired goes, a silent node's instances are lost, and shared artifacts that no record names
// are removed, by one server for all.

import type { Artifacts } from "@formation-mcp/artifacts";
import { startPeriodicTask } from "@formation-mcp/base";
import {
  FormationError,
  type Id,
  LIMITS,
  type Logger,
  logFailure,
  quietly,
  silentLogger,
} from "@formation-mcp/contract";
import { createSilentNodeCheck, hasLogRecord, type Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";

export interface MaintenanceOptions {
  store: Store;
  queue: Queue;
  /** Left to the one worker where they are not shared. */
  artifacts: Artifacts;
  logger?: Logger;
  operationKeptMs?: number;
  unusedBuildKeptMs?: number;
  /** How often it sweeps. Default: {@link LIMITS.sweepEveryMs}. */
  everyMs?: number;
  /** An artifact that no record names is kept for so long: it may belong to a request that is being written. */
  artifactKeptMs?: number;
  /**
   * After how long a silent node's instances are lost, from the second look on; null: never, where a worker may leave and
   * come back by itself.
   */
  nodeSilentMs?: number | null;
}

export interface Maintenance {
  /** Once through all of it. What fails is told to the operator, and comes again next time. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

/** All logs are compared with the records once in so many sweeps. */
const SWEEPS_PER_LOG_CHECK = 12;
const DEFAULT_ARTIFACT_KEPT_MS = 3_600_000;

/** Begins to see to it; any number of servers may. */
export function startMaintenance(options: MaintenanceOptions): Maintenance {
  const { store, queue, artifacts, logger = silentLogger, nodeSilentMs = LIMITS.nodeSilentMs } = options;
  const everyMs = options.everyMs ?? LIMITS.sweepEveryMs;
  const emitChanges = (owner: string, ...ids: Id[]) =>
    Promise.all(ids.map((id) => queue.emit({ v: 1, id, owner }).catch(() => undefined)));

  let closed = false;

  /** Returns whether the queue could be reached. */
  const sendAgain: (...wakeUp: Parameters<Queue["publish"]>) => Promise<boolean> = async (...wakeUp) => {
    try {
      await queue.publish(...wakeUp);
      return true;
    } catch (thrown) {
      const { code, message } = FormationError.from(thrown);
      logger.log("warn", `Could not send a wake-up again: ${message}`);
      return code !== "unavailable";
    }
  };
  const sweepRecords = async () => {
    const { resend, changed, removedBuilds } = await store.sweep({
      operationKeptMs: options.operationKeptMs ?? LIMITS.operationKeptMs,
      unusedBuildKeptMs: options.unusedBuildKeptMs ?? LIMITS.unusedBuildKeptMs,
      strandedMs: LIMITS.strandedMs,
    });
    for (const { id, send, subject } of resend) {
      // The queue has had its patience with the first: with hundreds it would be minutes. The next sweep sends them again.
      if (closed || !(await sendAgain(subject, `${id}.${send}`, { v: 1, operation_id: id }))) break;
    }
    for (const { owner, id, target_id } of changed) await emitChanges(owner, id, target_id);
    for (const { id } of removedBuilds)
      await quietly(logger, "remove a build's log", () => artifacts.removeLog(id));
  };
  /** Whether this server is the first of all that asked in this period. */
  const isOurTurn = async (key: string, windowMs: number) =>
    (await store.counters.spend({ key, limit: 1, windowMs, amount: 1 })).granted === 1;
  const collectArtifacts = async () => {
    if (!artifacts.shared) return;
    if (await isOurTurn("keeper:artifacts", everyMs)) {
      await artifacts.collect(
        await store.artifactRoots(),
        options.artifactKeptMs ?? DEFAULT_ARTIFACT_KEPT_MS,
      );
    }
    if (!(await isOurTurn("keeper:logs", SWEEPS_PER_LOG_CHECK * everyMs))) return;
    for (const name of await artifacts.logNames()) {
      if (!(await hasLogRecord(store, name))) await artifacts.removeLog(name);
    }
  };
  const findLostInstances =
    nodeSilentMs === null ? async () => [] : createSilentNodeCheck(store, nodeSilentMs);
  const markLostInstances = async () => {
    for (const { owner, id } of await findLostInstances()) {
      logger.log("warn", "An instance is lost: its node fell silent.", { instance: id });
      await emitChanges(owner, id);
    }
  };
  const startTask = (everyMs: number, what: string, action: () => Promise<unknown>) =>
    startPeriodicTask({ everyMs, action, onFailure: (thrown) => logFailure(logger, what, thrown) });
  const tasks = [
    startTask(everyMs, "sweep the records", sweepRecords),
    startTask(everyMs, "remove artifacts that no record names", collectArtifacts),
    startTask((nodeSilentMs ?? LIMITS.nodeSilentMs) / 3, "look for silent nodes", markLostInstances),
  ];
  return {
    async sweep() {
      await Promise.all(tasks.map((task) => task.run()));
    },
    async close() {
      closed = true;
      await Promise.all(tasks.map((task) => task.stop()));
    },
  };
}
