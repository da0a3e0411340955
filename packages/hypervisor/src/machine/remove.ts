// Removing a machine and everything of it, also one that was never whole or that no journal describes any more.

import { existsSync } from "node:fs";
import { join } from "node:path";
import type { Engine } from "./deps.ts";
import { checkMachineId } from "./journal.ts";
import { killAll, processesBelow } from "./processes.ts";
import { release } from "./start.ts";
import { kill } from "./stop.ts";

export async function removeMachine(engine: Engine, id: string): Promise<void> {
  checkMachineId(id);
  const machine = engine.machines.get(id);
  if (machine) {
    machine.settle();
    machine.noteIfRoom({ phase: "removing", stopping: true });
    await kill(machine);
    await release(engine, machine.journal);
    machine.detach();
  } else if (existsSync(engine.journals.directory(id))) {
    await killAll(processesBelow(join(engine.settings.stateDir, "machines")).get(id) ?? []);
  }
  engine.machines.delete(id);
  engine.broken.delete(id);
  engine.journals.discard(id);
  if (machine) machine.wake();
}
