// What really runs on the nodes of a cluster: processes in the directories of machines, by the name of their instance.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Cluster } from "../cluster.ts";

export interface MachineProcess {
  pid: number;
  node: string;
  machine: string;
  instance: string;
}

export function machineProcesses({ nodes }: Cluster): MachineProcess[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        const cwd = readlinkSync(`/proc/${pid}/cwd`);
        for (const { name, stateDir } of nodes) {
          const machines = join(stateDir, "h", "machines");
          if (!cwd.startsWith(`${machines}/`)) continue;
          const machine = cwd.slice(machines.length + 1).split("/")[0] ?? "";
          const journal = JSON.parse(readFileSync(join(machines, machine, "machine.json"), "utf8")) as {
            hostname?: string;
          };
          return [{ pid: Number(pid), node: name, machine, instance: journal.hostname ?? machine }];
        }
      } catch {
        // It went while we looked.
      }
      return [];
    });
}

/** The machines that run, by instance. */
export function running(cluster: Cluster): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const { instance, machine, node } of machineProcesses(cluster)) {
    const machines = found.get(instance) ?? new Set();
    machines.add(`${machine} on ${node}`);
    found.set(instance, machines);
  }
  return found;
}
