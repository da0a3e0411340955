// The settings of a worker, with their defaults. Most defaults are limits of the contract.

import { LIMITS } from "@formation-mcp/contract";

/** Times are milliseconds, sizes bytes. */
export interface WorkerSettings {
  leaseMs: number;
  reconcileEveryMs: number;
  sweepEveryMs: number;
  /** How often the node record's heartbeat is renewed. */
  heartbeatEveryMs: number;
  /** A node without a heartbeat for so long counts as dead: its instances are marked `lost`. */
  nodeSilentMs: number;
  /** The longest random pause before a node asks for work that another node offers. */
  offerDelayMs: number;
  /** How often the store is asked for work without a wake-up. */
  pollEveryMs: number;
  operationKeptMs: number;
  unusedBuildKeptMs: number;
  strandedMs: number;
  /** Bounds the builder's caches. */
  cacheBudgetBytes: number;
  /** How many builds may run at a time. */
  buildSlots: number;
  /** How many operations may run at a time, builds included. */
  slots: number;
  /** The pause before the second attempt; each further one is four times as long. */
  retryBaseMs: number;
  buildMs: number;
  /** What a build may add to the disk. */
  buildDiskBytes: number;
  bootMs: number;
  stopMs: number;
  /** How long `drain` lets attempts go on before it gives them back. */
  drainMs: number;
  /** The longest time that log lines wait before they are written. */
  batchMs: number;
  /** How long an artifact that no record names is kept: a request may be about to name it. */
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
