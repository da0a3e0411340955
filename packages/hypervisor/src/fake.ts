// The fake driver's door: machines are child processes, so that all above the port runs at speed where no
// virtual machine can. It isolates nothing: never give it a workload that is not trusted.

import { type Clock, type Logger, silentLogger, systemClock } from "@formation-mcp/contract";
import { createFakeDriver } from "./fake/driver.ts";
import { openHypervisor } from "./machine/hypervisor.ts";
import type { Hypervisor } from "./port.ts";

export interface FakeOptions {
  /** Only this driver writes here; made with mode 0700. */
  stateDir: string;
  clock?: Clock;
  logger?: Logger;
  /** The host address that forwarded ports are bound to. Default 127.0.0.1. */
  bindAddress?: string;
}

/**
 * Opens the fake. A spec's `disk` is a JSON file `{"rootfs": directory}`: a copy of that directory is the
 * machine's disk. A guest port is a port of this host, where the child must listen on all addresses; `user`,
 * `vcpus`, `memory_mb` and `egress` have no effect.
 */
export async function openFakeHypervisor(options: FakeOptions): Promise<Hypervisor> {
  const settings = { stateDir: options.stateDir, bindAddress: options.bindAddress ?? "127.0.0.1" };
  const clock = options.clock ?? systemClock;
  return openHypervisor(settings, createFakeDriver(settings), clock, options.logger ?? silentLogger);
}
