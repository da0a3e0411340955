// Renews the leash of the machines that an attempt has started and whose completion is not written yet. Such
// a machine ends by itself when the attempt's lease is no longer sure, even if this process is dead or
// frozen. Another attempt begins only after the whole lease, when the machine is gone.

import { quietly } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import type { LeaseRenewal } from "./lease-renewal.ts";

export interface LeashRenewal {
  /** Starts a machine on a leash. `start` gets the milliseconds that the machine may live from the call. */
  start<T>(machineId: string, start: (leashMs: number) => Promise<T>): Promise<T>;
  /** Takes the machines off the leash: the records name them now. */
  release(): Promise<void>;
}

export function createLeashRenewal(
  { hypervisor, logger }: Pick<WorkerDeps, "hypervisor" | "logger">,
  lease: Pick<LeaseRenewal, "sureMs" | "onRenewed">,
): LeashRenewal {
  const machineIds = new Set<string>();
  const prolong = (id: string) =>
    quietly(logger, `prolong ${id}`, () => hypervisor.prolong(id, lease.sureMs()));
  lease.onRenewed(() => {
    for (const id of machineIds) void prolong(id);
  });
  return {
    async start(machineId, start) {
      machineIds.add(machineId);
      const starting = start(lease.sureMs());
      // If this process was frozen between the two calls, the attempt ends here, before the machine begins.
      lease.sureMs();
      const started = await starting;
      // A renewal may have come before there was a machine to prolong.
      await prolong(machineId);
      return started;
    },
    async release() {
      for (const id of machineIds) await quietly(logger, `release ${id}`, () => hypervisor.release(id));
      machineIds.clear();
    },
  };
}
