// The shared state of the hypervisor: what its parts get passed in. Its settings, its driver, the machines
// that it knows, and the lock that keeps two actions on one machine from overlapping.

import type { MachineDriver } from "./driver.ts";
import type { Leashes } from "./leash.ts";
import type { Machine, MachineDeps } from "./machine.ts";

export interface HypervisorSettings {
  stateDir: string;
  /** The host address that forwarded ports are bound to. */
  bindAddress: string;
}

export interface HypervisorDeps extends MachineDeps {
  settings: HypervisorSettings;
  driver: MachineDriver;
  leashes: Leashes;
  machines: Map<string, Machine>;
  /** Machines whose journal cannot be read: they can only be removed. */
  broken: Set<string>;
  /** How many callers follow the logs of a machine, by its id. */
  followers: Map<string, number>;
  /** Host ports chosen for a start that is under way, by machine. */
  reservedPorts: Map<string, number[]>;
  /** Runs the action after every earlier one on the same machine. */
  serial<T>(id: string, action: () => Promise<T>): Promise<T>;
}
