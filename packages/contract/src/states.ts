// The states of every record and the allowed moves between them, as tables: each state lists the states that
// may follow. Also the tables of what an instance holds in each state and what an operation of each kind
// needs.

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

/** What the owner wants. Control writes it, into `desired`. */
export const INSTANCE_DESIRES = ["running", "stopped", "paused", "deleted"] as const;

/** What the instance is. Only its node, or the store for a silent node, writes it. */
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

/** The actions of `vm_control`. */
export const CONTROL_ACTIONS = ["start", "stop", "restart", "pause", "resume"] as const;

interface Holding {
  /** Whether the machine holds its vCPUs and its memory. */
  compute: boolean;
  /** Whether the machine holds its disk. */
  disk: boolean;
  /**
   * What is known about the machine on its node. `up`: it has a process, or is being started or stopped.
   * `resting`: it has no process. `unknown`: it may have one, because the node is silent or is removing the
   * machine. `none`: there is no machine.
   */
  machine: "none" | "up" | "resting" | "unknown";
}

/**
 * What an instance holds on its node in each state, if its record names a machine (`machine_id` is not null).
 * Without a machine it holds nothing. The node adds what it sees: a machine with a process holds compute in
 * every state.
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

/** States in which the machine has a process, or is being started or stopped. */
export const UP_STATES: readonly InstanceState[] = statesWith("up");
/**
 * States in which nothing of an instance runs, so that another node may start it. A `lost` instance may run.
 */
export const RESTING_STATES: readonly InstanceState[] = statesWith("resting");
/**
 * States that become `lost` when the node is silent. A `failed` instance stays `failed` and keeps its error.
 */
export const LOSABLE_STATES: readonly InstanceState[] = [...UP_STATES, "stopped"];

interface Needs {
  /**
   * `given`: as the submission says. `missing`: what the instance will have, less what its machine holds
   * already. For a ship only a machine that is `up` counts, because a ship may go to another node than the
   * one of a `lost` machine.
   */
  compute: "given" | "missing" | "none";
  /**
   * `whole`: all of the new machine's disk, because the old machine keeps its own until the new one is live.
   */
  disk: "given" | "whole" | "none";
}

/**
 * What an operation must find free on its node to be claimed, by its kind or its action. The store computes
 * it (`requiredFor`) when the operation is submitted and whenever its instance changes.
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

/** Whether a table allows a move. Keeping the same state is always allowed. */
export function canMove<S extends string>(table: Record<S, readonly string[]>, from: S, to: S): boolean {
  return from === to || table[from].includes(to);
}

/** Whether no move leads out of a state. */
export function isFinal<S extends string>(table: Record<S, readonly string[]>, state: S): boolean {
  return table[state].length === 0;
}

/** Whether an operation has ended: completed, failed or cancelled. */
export function hasEnded({ state }: { state: OperationState }): boolean {
  return isFinal(OPERATION_STATES, state);
}
