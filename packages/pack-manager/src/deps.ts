// What the parts of one worker share: the ports, this node, its clocks, and the few things that hold them together.

import type { Artifacts } from "@formation-mcp/artifacts";
import type { KeyedLock } from "@formation-mcp/base";
import type { Builder } from "@formation-mcp/builder";
import type { Clock, Logger, NodeRecord } from "@formation-mcp/contract";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import type { Store } from "@formation-mcp/operations";
import type { Queue } from "@formation-mcp/queue";
import type { ImageHolds } from "./operations/image-holds.ts";
import type { ChangeAnnouncer } from "./report/change-announcer.ts";
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
  scratchDir: string;
  clock: Clock;
  /** Milliseconds that never jump: leases are measured with it. */
  monotonic: () => number;
  /** From 0 up to 1. */
  random: () => number;
  /** Milliseconds since the epoch when this host booted. */
  hostBootedAt: () => number;
  logger: Logger;
  settings: WorkerSettings;
  announcer: ChangeAnnouncer;
  logs: LogWriter;
  /** One holder at a time per instance or build: an attempt, or a look at reality. */
  locks: KeyedLock;
  /** The images that attempts have made and no record names yet. */
  imageHolds: ImageHolds;
  /** Takes the lines that a machine prints over into its instance's log, until it is removed. */
  follow(machineId: string, instanceId: string): void;
}
