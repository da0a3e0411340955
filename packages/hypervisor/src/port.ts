// The hypervisor port: a disk becomes a running machine. The driver alone knows which program runs it, how
// its console, its ports and its guest are reached, and which files it has.

import type { Process } from "@formation-mcp/contract";

export interface MachineSpec {
  /** `<deployment id>.<attempt>`: part of the name of everything that the driver makes for the machine. */
  id: string;
  /** A legal host name label. */
  hostname: string;
  /**
   * A raw disk image with one ext4 file system. It is never written to: the machine has a copy-on-write
   * layer.
   */
  disk: string;
  vcpus: number;
  memory_mb: number;
  process: Process;
  /**
   * Guest TCP ports to forward; the first one decides when the machine is live. `port`: fixed by the owner.
   */
  ports: { guest_port: number; port: number | null }[];
  /** Whether the guest may reach the internet; granted only where its other connections can be filtered. */
  egress: boolean;
}

/**
 * `absent`: there is no such machine. `created`: not started yet. `running`: its process runs (see `guest`
 * for what the guest does). `stopped`: its process ended, see `exit`. `broken`: its files cannot be read, see
 * `problem`.
 */
export type MachineState = "absent" | "created" | "running" | "paused" | "stopped" | "broken";

export interface MachineStatus {
  id: string;
  state: MachineState;
  pid: number | null;
  accelerator: "kvm" | "tcg" | null;
  endpoints: { guest_port: number; address: string; port: number }[];
  egress: { mode: "internet" | "none"; reason: string };
  /** Limits that the driver's report promises and that this machine's last start could not set, in words. */
  unenforced?: string[];
  /** What the guest's own init reported since the last start. */
  guest: {
    /** When the entrypoint was started, in milliseconds since the epoch; null before. */
    started_at: number | null;
    /** Guest ports that the init saw listening. */
    listening: number[];
    /** Exit code of the entrypoint, once it ended. */
    exit_code: number | null;
    /** Why the init could not start the entrypoint: `no such user`, `entrypoint not found`, … */
    problem: string | null;
  };
  /** How it ended: the guest powered off, the guest crashed, a stop was asked for, the process was killed. */
  exit: {
    reason: "guest-shutdown" | "guest-panic" | "stopped" | "killed";
    code: number | null;
    /** It was killed because its leash ended. */
    leash?: true;
  } | null;
  problem: string | null;
}

/** What the driver found on this host and which limits it enforces, for `doctor` and the node's record. */
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
  /** `step` is `boot`, `entrypoint` or `listen`. The message has no text of the guest. */
  onStep?(step: string, message: string): void;
}

/**
 * A machine on a leash is killed when the leash ends: `exit` is `{ reason: "killed", leash: true }` then.
 * This holds even if the process that started it is dead or frozen; its successor may prolong or release the
 * leash after `recover`. A process of the host enforces it by the host's clock, which counts during sleep.
 */
export interface LeashHooks {
  /** Milliseconds from the call of `start` to the end of the leash; absent: no leash. */
  leashMs?: number;
}

/**
 * Every method but `inspect` and `list` may throw FormationError: the owner's mistake (`invalid`, `conflict`
 * for a fixed port that is taken, `limit` for too little memory or disk) or `unavailable`. The driver writes
 * a journal before it acts, so that `recover` or the next call understands what a crash left. It runs calls
 * about one machine one after the other.
 */
export interface Hypervisor {
  /** Makes the machine. Idempotent: with the id of a machine that exists it does nothing. */
  create(spec: MachineSpec): Promise<void>;
  /**
   * Starts the machine; resolves when its process runs. A machine that runs or is paused is left as it is,
   * with its leash.
   * @throws FormationError `unavailable` if the leash ended before there was a process; there is none then.
   */
  start(id: string, hooks: StartHooks & LeashHooks): Promise<MachineStatus>;
  /**
   * Moves the end of a leash to `leashMs` after this call; does nothing for a machine without a leash. This
   * and `release` do not wait for other calls about the machine, and they affect a start that is under way.
   */
  prolong(id: string, leashMs: number): Promise<void>;
  /** Removes the leash; does nothing for a machine without one. */
  release(id: string): Promise<void>;
  /**
   * Resolves when the first port listens in the guest; without ports, when the entrypoint has run for 2 s.
   * @throws FormationError `invalid` with `step` `entrypoint` and its `exit_code` if the entrypoint ended
   *   first; `limit` or `unavailable` with `step` `boot` if the guest did not boot; `cancelled`.
   */
  waitLive(id: string, hooks: StartHooks & { timeoutMs: number }): Promise<MachineStatus>;
  /**
   * Asks the guest to shut down, and kills it after `timeoutMs`. Idempotent; does nothing if it is absent.
   */
  stop(id: string, options: { timeoutMs: number; signal?: AbortSignal }): Promise<void>;
  pause(id: string): Promise<void>;
  resume(id: string): Promise<void>;
  /** Ends the machine and removes all of it: process, disk, port, rule, cgroup, files. Idempotent. */
  remove(id: string): Promise<void>;
  /** Never throws: the status says what is wrong. */
  inspect(id: string): Promise<MachineStatus>;
  list(): Promise<MachineStatus[]>;
  /**
   * Hands over each line that the machine's workload and console print, once, across stops and starts;
   * resolves when the signal aborts or the machine is removed. Lines that were handed over are removed from
   * the disk. A line is cut at `LIMITS.logLineBytes`. Of more than 2,000 lines a second the rest is dropped,
   * and a line says how many.
   */
  follow(
    id: string,
    signal: AbortSignal,
    onLine: (stream: "stdout" | "stderr" | "console", line: string) => void,
  ): Promise<void>;
  /** Calls back when a machine's process or guest changes. Returns the function that ends this. */
  onChange(listener: (id: string) => void): () => void;
  /**
   * Takes running machines back after a restart of this process, and discards half-made ones. Call it once,
   * before anything else.
   */
  recover(): Promise<void>;
  probe(): Promise<HypervisorReport>;
  /** Releases what this process holds; the machines run on. */
  close(): Promise<void>;
}
