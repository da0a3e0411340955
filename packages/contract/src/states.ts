// The states of every record as tables, and the only moves between them.

export const OPERATION_STATES = {
  queued: ["running", "failed", "cancelled"],
  running: ["queued", "completed", "failed", "cancelled"],
  completed: [],
  failed: [],
  cancelled: [],
} as const satisfies Record<string, readonly string[]>;

export const BUILD_STATES = {
  queued: ["building", "failed", "cancelled"],
  building: ["queued", "ready", "failed", "cancelled"],
  ready: [],
  failed: [],
  cancelled: [],
} as const satisfies Record<string, readonly string[]>;

export const DEPLOYMENT_STATES = {
  queued: ["deploying", "failed", "cancelled"],
  deploying: ["queued", "live", "failed", "cancelled"],
  live: ["superseded"],
  failed: [],
  cancelled: [],
  superseded: [],
} as const satisfies Record<string, readonly string[]>;

/** `desired` is written by control: what the owner wants. */
export const INSTANCE_DESIRES = ["running", "stopped", "paused", "deleted"] as const;

/** `state` is written by the instance's node alone: what is. */
export const INSTANCE_STATES = {
  creating: ["starting", "running", "stopped", "failed", "lost", "deleting", "deleted"],
  starting: ["running", "stopped", "failed", "lost", "stopping", "deleting", "deleted"],
  running: ["starting", "pausing", "paused", "stopping", "stopped", "failed", "lost", "deleting", "deleted"],
  pausing: ["paused", "running", "failed", "lost", "deleting", "deleted"],
  paused: ["running", "stopping", "stopped", "starting", "failed", "lost", "deleting", "deleted"],
  stopping: ["stopped", "starting", "failed", "lost", "deleting", "deleted"],
  stopped: ["starting", "running", "failed", "lost", "deleting", "deleted"],
  failed: ["starting", "running", "stopped", "lost", "deleting", "deleted"],
  lost: ["starting", "running", "paused", "stopped", "failed", "deleting", "deleted"],
  deleting: ["deleted", "failed"],
  deleted: [],
} as const satisfies Record<string, readonly string[]>;

/** States in which an instance's record says that nothing of it runs: another node may begin it anew. What is `lost` may run. */
export const RESTING_STATES: readonly (keyof typeof INSTANCE_STATES)[] = ["stopped", "failed"];

export type OperationState = keyof typeof OPERATION_STATES;
export type BuildState = keyof typeof BUILD_STATES;
export type DeploymentState = keyof typeof DEPLOYMENT_STATES;
export type InstanceState = keyof typeof INSTANCE_STATES;
export type InstanceDesire = (typeof INSTANCE_DESIRES)[number];

/** Whether a table allows a move. Staying where one is, is always allowed. */
export function canMove<S extends string>(table: Record<S, readonly string[]>, from: S, to: S): boolean {
  return from === to || table[from].includes(to);
}

/** Whether nothing leaves a state. */
export function isFinal<S extends string>(table: Record<S, readonly string[]>, state: S): boolean {
  return table[state].length === 0;
}
