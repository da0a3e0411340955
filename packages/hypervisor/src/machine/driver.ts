// What differs between the drivers: how a machine's disk is made, what process runs it, and what that process is confined
// by. Everything else, from the journal to the log lines, is the same for all of them; so is the control socket's protocol.

import type { HypervisorReport, MachineSpec, MachineStatus, StartHooks } from "../port.ts";
import type { Journal } from "./journal.ts";

/** Where a machine's things lie: what only the worker may touch, and below it what its process is started in. */
export interface Place {
  directory: string;
  runDirectory: string;
}

interface Command {
  program: string;
  args: string[];
  env: Record<string, string>;
  /** Limits that this driver promises and could not put on this process, in words. */
  unenforced: string[];
}

export interface Runner {
  /** The first account number for machines, or null if they run as ourselves. */
  uidBase: number | null;
  accelerator(): Promise<MachineStatus["accelerator"]>;
  /** Puts the disk, and what the guest is to do, into the machine's directories. */
  make(spec: MachineSpec, place: Place): Promise<void>;
  /** Makes ready what may be missing before a start, or may have changed since the last. */
  prepare(journal: Journal, place: Place, hooks: StartHooks): Promise<void>;
  egress(journal: Journal): Promise<MachineStatus["egress"]>;
  /**
   * The process to start in the run directory. It speaks QMP on `ipc/qmp` once it has bound its ports. One that is `tied`
   * ends with the leash of its directory, whatever becomes of this process.
   */
  command(journal: Journal, place: Place, tied: boolean): Command;
  /** Takes back what a machine without a process must not hold. */
  release(journal: Journal, place: Place): Promise<void>;
  /** Takes back what belongs to none of these machines. */
  keepOnly(journals: readonly Journal[]): Promise<void>;
  /** Puts back what others may have taken away from running machines. Called every minute. */
  restore(): Promise<void>;
  probe(): Promise<HypervisorReport>;
}
