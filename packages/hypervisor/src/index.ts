// A disk becomes a running machine. The drivers live behind ./qemu and ./fake, so that their libraries load
// only there.

export type {
  Hypervisor,
  HypervisorReport,
  LeashHooks,
  MachineSpec,
  MachineState,
  MachineStatus,
  StartHooks,
} from "./port.ts";
