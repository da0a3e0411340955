// The hypervisor port: a disk becomes a running machine. Which program runs it, how its console, its ports
// and its guest are reached, and what is on disk for it, is the driver's secret.

import type { Process } from "@formation-mcp/contract";

export interface MachineSpec {
  /** `<deployment id>.<attempt>`: everything the driver makes for it carries this name. */
  id: string;
  /** A legal host name label. */
  hostname: string;
  /**
   * A read-only raw disk with one ext4 file system, never written to; the machine gets its own copy-on-write
   * layer.
   */
  disk: string;
  vcpus: number;
  memory_mb: number;
  process: Process;
  /**
   * Guest TCP ports to forward, the first one being the one that proves life; `port` where the owner fixed
   * it.
   */
  ports: { guest_port: number; port: number | null }[];
  /** Whether the guest may reach the internet; granted only where the rest can be kept from it. */
  egress: boolean;
}

/**
 * `absent`: nothing of it exists. `created`: made, not started since. `running`: its process runs (what the
 * guest does is in `guest`). `stopped`: it ran and ended, see `exit`. `broken`: what is on disk contradicts
 * itself, see `problem`.
 */
export type MachineState = "absent" | "created" | "running" | "paused" | "stopped" | "broken";

export interface MachineStatus {
  id: string;
  state: MachineState;
  pid: number | null;
  accelerator: "kvm" | "tcg" | null;
  endpoints: { guest_port: number; address: string; port: number }[];
  egress: { mode: "internet" | "none"; reason: string };
  /**
   * Limits that the driver promises in its report and could not put on this machine at its last start, in
   * words.
   */
  unenforced?: string[];
  /** What the guest's own init reported since the last start. */
  guest: {
    /** Milliseconds since the epoch when the entrypoint was started; null before. */
    started_at: number | null;
    /** Guest ports seen listening by the init. */
    listening: number[];
    /** Exit code of the entrypoint, once it ended. */
    exit_code: number | null;
    /** What the init could not do, in its words: `no such user`, `entrypoint not found`, … */
    problem: string | null;
  };
  /** How it ended: the guest powered off, the guest crashed, the process was killed, somebody stopped it. */
  exit: {
    reason: "guest-shutdown" | "guest-panic" | "stopped" | "killed";
    code: number | null;
    /** It was killed because its leash ended. */
    leash?: true;
  } | null;
  problem: string | null;
}

/** What the driver found and what it really enforces here, for `doctor` and the node record. */
export interface HypervisorReport {
  driver: string;
  version: string;
  accelerator: "kvm" | "tcg";
  ready: boolean;
  problems: { problem: string; remedy: string }[];
  enforced: { what: string; enforced: boolean; how: string }[];
}

export interface StartHooks {
  signal: AbortSignal;
  /** `boot`, `entrypoint`, `listen`: the message is ours, safe to show. */
  onStep?(step: string, message: string): void;
}

/**
 * A machine on a leash ends by itself, `exit.reason: "killed"` with `leash`, when it is not prolonged in
 * time: also when the process that started it was killed or is frozen, and whoever recovers it may prolong or
 * release it. What holds the leash is a process of the host and counts time as the host does, sleep included.
 */
export interface LeashHooks {
  /** Milliseconds from the call of `start` until it ends; absent: it has no leash. */
  leashMs?: number;
}

/**
 * Every method but `inspect` and `list` may throw FormationError: the owner's mistake (`invalid`, `conflict`
 * for a fixed port that is taken, `limit` for too little memory or disk) or `unavailable`. The driver
 * journals before it acts, so that a process that dies at any line leaves something that `recover` or the
 * next call understands. No two calls about one machine overlap: the driver serialises them.
 */
export interface Hypervisor {
  /** Makes the machine; called again with the same id it does nothing. */
  create(spec: MachineSpec): Promise<void>;
  /**
   * Starts it; resolves when its process runs. A running machine is left alone, its leash too; a paused one
   * is left paused.
   * @throws FormationError `unavailable` if the leash ended before there was a process: then there will be
   *   none.
   */
  start(id: string, hooks: StartHooks & LeashHooks): Promise<MachineStatus>;
  /**
   * Lets a machine on a leash live until `leashMs` after this call; on any other it does nothing. This and
   * `release` wait for no other call about the machine, and hold for a start that is under way.
   */
  prolong(id: string, leashMs: number): Promise<void>;
  /** Takes a machine off its leash for good; on any other it does nothing. */
  release(id: string): Promise<void>;
  /**
   * Resolves when the first port is listening in the guest (with no ports: when the entrypoint has lived for
   * 2 s).
   * @throws FormationError `invalid` with `step` `entrypoint` and its `exit_code` if it ended first; `limit`
   *   or `unavailable` with `step` `boot` if the guest never came up; `cancelled`.
   */
  waitLive(id: string, hooks: StartHooks & { timeoutMs: number }): Promise<MachineStatus>;
  /**
   * Asks the guest to stop, and after `timeoutMs` makes it. Idempotent; an absent machine is already stopped.
   */
  stop(id: string, options: { timeoutMs: number; signal?: AbortSignal }): Promise<void>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  /** Ends it and removes everything of it: process, disk, port, rule, cgroup, files. Idempotent. */
  remove(id: string): Promise<void>;
  /** Never throws: what is wrong is in the status. */
  inspect(id: string): Promise<MachineStatus>;
  list(): Promise<MachineStatus[]>;
  /**
   * Hands over each line that the guest's workload prints, once, until the signal aborts or the machine is
   * removed; goes on across stops and starts. What was handed over is dropped from the machine's own files. A
   * line beyond `LIMITS.logLineBytes` is cut; beyond 2,000 lines a second per machine lines are dropped and
   * the drop is told as a line.
   */
  follow(
    id: string,
    signal: AbortSignal,
    onLine: (stream: "stdout" | "stderr" | "console", line: string) => void,
  ): Promise<void>;
  /** Calls back whenever a machine's process or guest changed. Returns the way to stop that. */
  onChange(listener: (id: string) => void): () => void;
  /**
   * Takes running machines back after a restart of this process, and removes what is half-made. Called once,
   * first.
   */
  recover(): Promise<void>;
  probe(): Promise<HypervisorReport>;
  /** Lets go of everything without stopping a machine. */
  close(): Promise<void>;
}
