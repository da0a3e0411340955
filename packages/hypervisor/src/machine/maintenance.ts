// The periodic maintenance of running machines: it notices processes that ended unseen, reconnects lost
// control sockets, bounds the logs of machines that have no follower, and has the driver's rules checked.
// Nothing else in this package polls.

import { startPeriodicTask } from "@formation-mcp/base";
import { logFailure } from "@formation-mcp/contract";
import { boundLogs } from "../logs/trim.ts";
import type { HypervisorDeps } from "./deps.ts";
import type { Machine } from "./machine.ts";
import { reconnect } from "./recover.ts";

const INTERVAL_MS = 2000;
/** Once a minute. */
const ROUNDS_PER_RULES_CHECK = 30;

/** Returns the function that ends it; that resolves when the round under way is over. */
export function startMaintenance(deps: HypervisorDeps): () => Promise<void> {
  let rounds = 0;
  const task = startPeriodicTask({
    everyMs: INTERVAL_MS,
    action: () => round(deps, ++rounds % ROUNDS_PER_RULES_CHECK === 0),
    onFailure: (thrown) => logFailure(deps.logger, "look after the machines", thrown),
    keepsAlive: false,
  });
  return task.stop;
}

async function round(deps: HypervisorDeps, checksRules: boolean): Promise<void> {
  if (checksRules) {
    await deps.driver.restoreRules().catch((error: unknown) => {
      deps.logger.log("warn", "The machines' rules could not be checked.", { error: String(error) });
    });
  }
  for (const [id, machine] of deps.machines) {
    await maintain(deps, id, machine).catch((error: unknown) => {
      deps.logger.log("warn", "A machine could not be looked after.", {
        machine: id,
        error: String(error),
      });
    });
  }
}

async function maintain(deps: HypervisorDeps, id: string, machine: Machine): Promise<void> {
  machine.noteExit();
  machine.noteUnwritten();
  if (!machine.alive) return;
  machine.readStatus();
  if (machine.journal.phase === "running" && machine.qmp === null) {
    await deps.serial(id, async () => {
      if (machine.alive && machine.qmp === null) await reconnect(deps, machine);
    });
  }
  await machine.trimStatus();
  if (!deps.followers.has(id)) {
    const { directory, runDirectory } = deps.journals.paths(id);
    await boundLogs(directory, runDirectory);
  }
}
