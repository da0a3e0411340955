// Removing a machine with everything that belongs to it. This also works for one that was only half made, and
// for one whose journal cannot be read.

import { existsSync } from "node:fs";
import type { HypervisorDeps } from "./deps.ts";
import { checkMachineId } from "./journal.ts";
import { killAll, processesBelow } from "./processes.ts";
import { releaseResources } from "./release.ts";
import { killProcess } from "./stop.ts";

/** See `Hypervisor.remove`. */
export async function removeMachine(deps: HypervisorDeps, id: string): Promise<void> {
  checkMachineId(id);
  const machine = deps.machines.get(id);
  if (machine) {
    machine.noteExit();
    machine.noteIfPossible({ phase: "removing", stopping: true });
    await killProcess(machine);
    await releaseResources(deps, machine.journal);
    machine.detach();
  } else if (existsSync(deps.journals.paths(id).directory)) {
    await killAll(processesBelow(deps.journals.root).get(id) ?? []);
  }
  deps.machines.delete(id);
  deps.broken.delete(id);
  deps.journals.discard(id);
  if (machine) machine.announceChange();
}
