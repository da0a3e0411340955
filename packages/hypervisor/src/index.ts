// The hypervisor port: a disk becomes a running machine. The drivers are behind ./qemu and ./fake.

export type {
  Hypervisor,
  HypervisorReport,
  LeashHooks,
  MachineSpec,
  MachineState,
  MachineStatus,
  StartHooks,
} from "./port.ts";
