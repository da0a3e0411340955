// What servers do periodically, independent of calls and workers: end operations at their deadlines, send
// lost wake-ups again, remove expired records, mark the instances of silent nodes lost, and remove shared
// artifacts that no record names (one server does this for all).

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
  /** Collected only if they are shared; otherwise the single worker does it. */
  artifacts: Artifacts;
  logger?: Logger;
  operationKeptMs?: number;
  unusedBuildKeptMs?: number;
  /** How often it sweeps, in milliseconds. Default: {@link LIMITS.sweepEveryMs}. */
  everyMs?: number;
  /** How long an artifact is kept that no record names: its record may be about to be written. */
  artifactKeptMs?: number;
  /**
   * How long a node is silent, in milliseconds, before its instances are lost; counted from the second check
   * on. null: never, for setups whose worker may leave and come back.
   */
  nodeSilentMs?: number | null;
}

export interface Maintenance {
  /** Runs every task once. A failure is logged, and tried again at the next sweep. */
  sweep(): Promise<void>;
  close(): Promise<void>;
}

/** All logs are compared with the records once in this many sweeps. */
const SWEEPS_PER_LOG_CHECK = 12;
const DEFAULT_ARTIFACT_KEPT_MS = 3_600_000;

/** Starts the periodic tasks. Any number of servers may run them at the same time. */
export function startMaintenance(options: MaintenanceOptions): Maintenance {
  const { store, queue, artifacts, logger = silentLogger, nodeSilentMs = LIMITS.nodeSilentMs } = options;
  const everyMs = options.everyMs ?? LIMITS.sweepEveryMs;
  const emitChanges = (owner: string, ...ids: Id[]) =>
    Promise.all(ids.map((id) => queue.emit({ v: 1, id, owner }).catch(() => undefined)));

  let closed = false;

  const sweepRecords = async () => {
    const { resend, changed, removedBuilds } = await store.sweep({
      operationKeptMs: options.operationKeptMs ?? LIMITS.operationKeptMs,
      unusedBuildKeptMs: options.unusedBuildKeptMs ?? LIMITS.unusedBuildKeptMs,
      strandedMs: LIMITS.strandedMs,
    });
    for (const { id, send, subject } of resend) {
      // Every publish waits for an unavailable queue: with hundreds of messages that would take minutes.
      // The next sweep sends the rest.
      const wakeUp = { v: 1, operation_id: id } as const;
      if (closed || !(await sendAgain(queue, logger, subject, `${id}.${send}`, wakeUp))) break;
    }
    for (const { owner, id, target_id } of changed) await emitChanges(owner, id, target_id);
    for (const { id } of removedBuilds)
      await quietly(logger, "remove a build's log", () => artifacts.removeLog(id));
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
    startTask(everyMs, "remove artifacts that no record names", () => collectArtifacts(options, everyMs)),
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

/** Publishes a wake-up again. Returns false if the queue could not be reached. */
async function sendAgain(
  queue: Queue,
  logger: Logger,
  ...wakeUp: Parameters<Queue["publish"]>
): Promise<boolean> {
  try {
    await queue.publish(...wakeUp);
    return true;
  } catch (thrown) {
    const { code, message } = FormationError.from(thrown);
    logger.log("warn", `Could not send a wake-up again: ${message}`);
    return code !== "unavailable";
  }
}

/** Removes shared artifacts, and at times logs, that no record names. One server per period does it. */
async function collectArtifacts(
  { store, artifacts, artifactKeptMs = DEFAULT_ARTIFACT_KEPT_MS }: MaintenanceOptions,
  everyMs: number,
): Promise<void> {
  if (!artifacts.shared) return;
  if (await isFirstServer(store, "keeper:artifacts", everyMs)) {
    await artifacts.collect(await store.artifactRoots(), artifactKeptMs);
  }
  if (!(await isFirstServer(store, "keeper:logs", SWEEPS_PER_LOG_CHECK * everyMs))) return;
  for (const name of await artifacts.logNames()) {
    if (!(await hasLogRecord(store, name))) await artifacts.removeLog(name);
  }
}

/** Whether this server is the first of all servers that asked in this period. */
async function isFirstServer(store: Store, key: string, windowMs: number): Promise<boolean> {
  return (await store.counters.spend({ key, limit: 1, windowMs, amount: 1 })).granted === 1;
}
