// What a driver of the hypervisor port provides: how a machine's disk is made, which process runs the
// machine, and how that process is confined. The rest of this folder is the same for all drivers, QMP on the
// control socket included.

import type { HypervisorReport, MachineSpec, MachineStatus, StartHooks } from "../port.ts";
import type { MachinePaths } from "./files.ts";
import type { Journal } from "./journal.ts";

export interface MachineCommand {
  program: string;
  args: string[];
  env: Record<string, string>;
  /** Limits that this driver promises and could not put on this process, in words. */
  unenforced: string[];
}

export interface MachineDriver {
  /** The first account number (uid) for machines; null if they run as the worker's own account. */
  uidBase: number | null;
  accelerator(): Promise<MachineStatus["accelerator"]>;
  /** Makes the machine's disk and stores what the guest is to run, in the machine's directories. */
  provision(spec: MachineSpec, paths: MachinePaths): Promise<void>;
  /**
   * Makes what a boot needs and what may be missing or out of date, such as the kernel. Called before each
   * start.
   */
  prepareBoot(journal: Journal, paths: MachinePaths, hooks: StartHooks): Promise<void>;
  /**
   * Opens or closes the machine's way to the internet; resolves with what was granted, and why. Idempotent.
   */
  setEgress(journal: Journal): Promise<MachineStatus["egress"]>;
  /**
   * The process to start in the run directory. It answers QMP on `ipc/qmp` once it has bound its ports. With
   * `guarded` it ends with the leash of its directory, even if the worker is dead by then.
   */
  command(journal: Journal, paths: MachinePaths, guarded: boolean): MachineCommand;
  /** Removes what a machine holds outside of its directory: rules, cgroups. Called when it has no process. */
  release(journal: Journal, paths: MachinePaths): Promise<void>;
  /** Removes what belongs to no machine of these. */
  keepOnly(journals: readonly Journal[]): Promise<void>;
  /** Puts back rules of running machines that something else on the host removed. Called every minute. */
  restoreRules(): Promise<void>;
  probe(): Promise<HypervisorReport>;
}
