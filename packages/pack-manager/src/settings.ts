// The worker's numbers: how often, how long and how much, with the contract's limits as the defaults.

import { LIMITS } from "@formation-mcp/contract";

/** Times are milliseconds, sizes bytes. */
export interface WorkerSettings {
  leaseMs: number;
  reconcileEveryMs: number;
  sweepEveryMs: number;
  /** How often the node record's heartbeat is renewed. */
  heartbeatEveryMs: number;
  /** A node that was not heard of for so long is taken for dead: its instances are lost. */
  nodeSilentMs: number;
  /** A node that hears of work which another could not take waits at random up to this long before it looks for it. */
  offerDelayMs: number;
  /** How often the store is asked for work though nothing woke us. */
  pollEveryMs: number;
  operationKeptMs: number;
  unusedBuildKeptMs: number;
  strandedMs: number;
  /** What the builder's caches may take. */
  cacheBudgetBytes: number;
  /** How many builds run at a time. */
  buildSlots: number;
  /** How many operations run at a time, builds among them. */
  slots: number;
  /** The pause before the second attempt; each further one is four times as long. */
  retryBaseMs: number;
  buildMs: number;
  /** What a build may add to the disk. */
  buildDiskBytes: number;
  bootMs: number;
  stopMs: number;
  /** How long `drain` lets what runs go on before it is given back. */
  drainMs: number;
  /** Log lines and observations are written at least this often while there are any. */
  batchMs: number;
  /** An artifact that no record names is kept for so long: it may belong to a request that is being written. */
  artifactKeptMs: number;
}

const GiB = 1024 ** 3;

export const DEFAULT_SETTINGS: WorkerSettings = {
  leaseMs: LIMITS.leaseMs,
  reconcileEveryMs: LIMITS.reconcileEveryMs,
  sweepEveryMs: LIMITS.sweepEveryMs,
  heartbeatEveryMs: LIMITS.leaseMs / 3,
  nodeSilentMs: LIMITS.nodeSilentMs,
  offerDelayMs: 250,
  pollEveryMs: LIMITS.pollEveryMs,
  operationKeptMs: LIMITS.operationKeptMs,
  unusedBuildKeptMs: LIMITS.unusedBuildKeptMs,
  strandedMs: LIMITS.strandedMs,
  cacheBudgetBytes: 20 * GiB,
  buildSlots: 2,
  slots: 16,
  retryBaseMs: 2000,
  buildMs: LIMITS.buildMs,
  buildDiskBytes: LIMITS.buildDiskBytes,
  bootMs: LIMITS.bootMs,
  stopMs: LIMITS.stopMs,
  drainMs: 60_000,
  batchMs: 200,
  artifactKeptMs: 60 * 60_000,
};
