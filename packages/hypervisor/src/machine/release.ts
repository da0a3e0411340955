// Releasing what a machine holds on the host while it runs, once its process is gone: its leash with the
// guard, its firewall rule, its cgroup.

import type { HypervisorDeps } from "./deps.ts";
import type { Journal } from "./journal.ts";
import { removeLeash } from "./leash.ts";

/** Idempotent. */
export async function releaseResources(deps: HypervisorDeps, journal: Journal): Promise<void> {
  const paths = deps.journals.paths(journal.id);
  await removeLeash(paths.runDirectory);
  await deps.driver.release(journal, paths);
}

/** Releases what a machine held that ended by itself, unless it was started again meanwhile. */
export async function releaseEnded(deps: HypervisorDeps, id: string): Promise<void> {
  const machine = deps.machines.get(id);
  if (machine && machine.journal.phase === "stopped") await releaseResources(deps, machine.journal);
}
