// What an attempt started and nobody has confirmed yet: it lives only as long as the attempt is sure of its lease, also when
// this process no longer does anything. Another attempt begins after the whole lease; what this one left is gone by then.

import { quietly } from "@formation-mcp/contract";
import type { WorkerDeps } from "../deps.ts";
import type { LeaseWatch } from "./lease-watch.ts";

export interface LeashRenewal {
  /** Starts a machine on the leash: `start` is told how many milliseconds it may live from its call. */
  start<T>(machineId: string, start: (leashMs: number) => Promise<T>): Promise<T>;
  /** Lets them live on: the record says that they are what it wanted. */
  release(): Promise<void>;
}

export function createLeashRenewal(
  deps: Pick<WorkerDeps, "hypervisor" | "logger">,
  watch: LeaseWatch,
): LeashRenewal {
  const { hypervisor } = deps;
  const tied = new Set<string>();
  watch.onRenewed(() => {
    for (const id of tied) {
      void quietly(deps.logger, `prolong ${id}`, () => hypervisor.prolong(id, watch.sureMs()));
    }
  });
  return {
    async start(machineId, start) {
      tied.add(machineId);
      const starting = start(watch.sureMs());
      // If this process was frozen between the two, the attempt ends here, before the machine begins.
      watch.sureMs();
      const started = await starting;
      // A renewal may have come before there was anything to prolong.
      await quietly(deps.logger, `prolong ${machineId}`, () => hypervisor.prolong(machineId, watch.sureMs()));
      return started;
    },
    async release() {
      for (const id of tied) await quietly(deps.logger, `release ${id}`, () => hypervisor.release(id));
      tied.clear();
    },
  };
}
