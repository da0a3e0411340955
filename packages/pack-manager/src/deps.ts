// What the parts of one worker share: the ports, this node, its clocks, its settings, and the parts that
// several others use.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { KeyedLock } from "@formation-mcp/base";
import type { Builder } from "@formation-mcp/builder";
import type { Clock, Logger, NodeRecord } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { ImageHolds } from "./operations/image-holds.ts";
import type { ChangeAnnouncer } from "./report/change-announcer.ts";
import type { LogFollowers } from "./report/log-followers.ts";
import type { LogWriter } from "./report/log-writer.ts";
import type { WorkerSettings } from "./settings.ts";

export interface Ports {
  store: Store;
  queue: Queue;
  artifacts: Artifacts;
  builder: Builder;
  hypervisor: Hypervisor;
}

/** This node as it registers itself. */
export type NodeIdentity = Pick<
  NodeRecord,
  "id" | "name" | "labels" | "capacity" | "engine" | "pid" | "program"
>;

export interface WorkerDeps extends Ports {
  node: NodeIdentity;
  /** Where contexts are unpacked. */
  scratchDir: string;
  /** The time of day, as records have it. */
  clock: Clock;
  /** A monotonic clock in milliseconds. Leases are measured with it. */
  monotonic: () => number;
  /** At least 0 and less than 1. */
  random: () => number;
  /** Milliseconds since the epoch when this host booted. */
  hostBootedAt: () => number;
  logger: Logger;
  settings: WorkerSettings;
  announcer: ChangeAnnouncer;
  logs: LogWriter;
  /** Copies what machines print into the logs of their instances. */
  followers: LogFollowers;
  /** One lock per instance or build. An attempt holds it, and so does a reconciliation of the instance. */
  locks: KeyedLock;
  /** The images that attempts have built and that no record names yet. */
  imageHolds: ImageHolds;
}
