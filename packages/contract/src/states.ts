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

/** What an owner may have done to an instance. */
export const CONTROL_ACTIONS = ["start", "stop", "restart", "pause", "resume"] as const;

interface Holding {
  /** Whether its machine holds its vCPUs and its memory. */
  compute: boolean;
  /** Whether its machine holds its disk. */
  disk: boolean;
  /**
   * What is known of its machine on its node. `up`: it has a process, or is on the way from or to one. `resting`: it has none.
   * `unknown`: it may have one, because its node is silent or is just removing it. `none`: there is no machine.
   */
  machine: "none" | "up" | "resting" | "unknown";
}

/**
 * What an instance in each state holds on its node if its record names a machine (`machine_id` is not null); without a
 * machine it holds nothing. A node adds what it sees itself: a machine that has a process holds compute in every state.
 */
export const INSTANCE_HOLDINGS = {
  creating: { compute: false, disk: false, machine: "none" },
  starting: { compute: true, disk: true, machine: "up" },
  running: { compute: true, disk: true, machine: "up" },
  pausing: { compute: true, disk: true, machine: "up" },
  paused: { compute: true, disk: true, machine: "up" },
  stopping: { compute: true, disk: true, machine: "up" },
  stopped: { compute: false, disk: true, machine: "resting" },
  failed: { compute: false, disk: true, machine: "resting" },
  lost: { compute: true, disk: true, machine: "unknown" },
  deleting: { compute: true, disk: true, machine: "unknown" },
  deleted: { compute: false, disk: false, machine: "none" },
} as const satisfies Record<keyof typeof INSTANCE_STATES, Holding>;

function statesWith(machine: Holding["machine"]): InstanceState[] {
  const states = Object.keys(INSTANCE_HOLDINGS) as InstanceState[];
  return states.filter((state) => INSTANCE_HOLDINGS[state].machine === machine);
}

/** States in which an instance's machine has a process, or is on the way from or to one. */
export const UP_STATES: readonly InstanceState[] = statesWith("up");
/** States in which nothing of an instance runs: another node may begin it anew. An instance that is `lost` may run. */
export const RESTING_STATES: readonly InstanceState[] = statesWith("resting");
/** States that only its node can vouch for: when that is silent the instance is `lost`. A `failed` one keeps its error. */
export const LOSABLE_STATES: readonly InstanceState[] = [...UP_STATES, "stopped"];

interface Needs {
  /**
   * `given`: as the submission says. `missing`: what the instance is to have beyond what its machine holds there. For a ship
   * only a machine that is `up` counts as there, because a ship may go to another node than a `lost` or `deleting` one is on.
   */
  compute: "given" | "missing" | "none";
  /** `whole`: the new machine's disk, because the old one's is kept until the new machine is live. */
  disk: "given" | "whole" | "none";
}

/**
 * What an operation must find free on its node to be claimed, by its kind or its action. The store computes it
 * (`requiredFor`) when the operation is submitted and whenever its instance changes.
 */
export const OPERATION_NEEDS = {
  build: { compute: "given", disk: "given" },
  ship: { compute: "missing", disk: "whole" },
  start: { compute: "missing", disk: "none" },
  restart: { compute: "missing", disk: "none" },
  resume: { compute: "missing", disk: "none" },
  stop: { compute: "none", disk: "none" },
  pause: { compute: "none", disk: "none" },
  delete: { compute: "none", disk: "none" },
} as const satisfies Record<"build" | "ship" | "delete" | ControlAction, Needs>;

export type OperationState = keyof typeof OPERATION_STATES;
export type BuildState = keyof typeof BUILD_STATES;
export type DeploymentState = keyof typeof DEPLOYMENT_STATES;
export type InstanceState = keyof typeof INSTANCE_STATES;
export type InstanceDesire = (typeof INSTANCE_DESIRES)[number];
export type ControlAction = (typeof CONTROL_ACTIONS)[number];

/** Whether a table allows a move. Staying where one is, is always allowed. */
export function canMove<S extends string>(table: Record<S, readonly string[]>, from: S, to: S): boolean {
  return from === to || table[from].includes(to);
}

/** Whether nothing leaves a state. */
export function isFinal<S extends string>(table: Record<S, readonly string[]>, state: S): boolean {
  return table[state].length === 0;
}

/** Whether an operation is over. */
export function hasEnded({ state }: { state: OperationState }): boolean {
  return isFinal(OPERATION_STATES, state);
}
