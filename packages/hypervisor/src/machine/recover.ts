// Recovery after a restart of the worker: running machines are taken back, half-made and half-removed ones
// are discarded, and processes, rules and cgroups that belong to no journal are removed.

import { existsSync } from "node:fs";
import { boundLogs } from "../logs/trim.ts";
import type { HypervisorDeps } from "./deps.ts";
import { ioProblem } from "./disk-errors.ts";
import type { Journal } from "./journal.ts";
import { Machine } from "./machine.ts";
import { killAll, processesBelow } from "./processes.ts";
import { releaseResources } from "./release.ts";

/** See `Hypervisor.recover`. */
export async function recover(deps: HypervisorDeps): Promise<void> {
  const processes = processesBelow(deps.journals.root);
  const running = loadMachines(deps);
  // All other processes were started by a worker that died before it could record them.
  for (const [id, found] of processes) if (!running.has(id)) await killAll(found);
  discardHalfMade(deps);
  await deps.driver.keepOnly([...running].flatMap((id) => deps.machines.get(id)?.journal ?? []));
  for (const machine of deps.machines.values()) {
    await trimLogs(deps, machine.journal.id);
    machine.noteExit();
    if (machine.alive) await reconnect(deps, machine);
    else await releaseResources(deps, machine.journal);
  }
}

/** Connects to a running machine. What fails now is tried again by maintenance. */
export async function reconnect(deps: HypervisorDeps, machine: Machine): Promise<void> {
  try {
    await machine.attach();
    const status = (await machine.qmp?.execute("query-status")) as { status?: string } | undefined;
    const paused = status?.status === "paused";
    if (paused !== machine.journal.paused) machine.note({ paused });
    machine.problem = status?.status === "io-error" ? ioProblem(await hasNoSpace(machine)) : null;
  } catch (error) {
    machine.problem = "its process runs but does not answer";
    deps.logger.log("warn", "A machine's control socket does not answer.", {
      machine: machine.journal.id,
      error: String(error),
    });
  }
}

/** Fills `deps.machines` and `deps.broken` from the journals; returns the ids of the machines that run. */
function loadMachines(deps: HypervisorDeps): Set<string> {
  const running = new Set<string>();
  for (const id of deps.journals.ids()) {
    const journal = readJournal(deps, id);
    if (journal === null || !isWhole(deps, journal)) continue;
    const machine = new Machine(deps, journal);
    deps.machines.set(id, machine);
    if (journal.phase === "running" && machine.alive) running.add(id);
  }
  return running;
}

/**
 * Null without a journal, and for one that cannot be read: that machine is broken, and kept until it is
 * removed.
 */
function readJournal(deps: HypervisorDeps, id: string): Journal | null {
  try {
    return deps.journals.read(id);
  } catch {
    deps.broken.add(id);
    return null;
  }
}

function isWhole(deps: HypervisorDeps, journal: Journal): boolean {
  if (journal.phase === "creating" || journal.phase === "removing") return false;
  return existsSync(deps.journals.paths(journal.id).runDirectory);
}

function discardHalfMade(deps: HypervisorDeps): void {
  for (const id of deps.journals.ids()) {
    if (!deps.machines.has(id) && !deps.broken.has(id)) deps.journals.discard(id);
  }
  deps.journals.sweepDiscarded();
}

async function hasNoSpace(machine: Machine): Promise<boolean> {
  const drives = (await machine.qmp?.execute("query-block")) as { "io-status"?: string }[] | undefined;
  return drives?.some((drive) => drive["io-status"] === "nospace") ?? false;
}

/** Bounds the logs that grew while no worker ran. */
async function trimLogs(deps: HypervisorDeps, id: string): Promise<void> {
  const { directory, runDirectory } = deps.journals.paths(id);
  await boundLogs(directory, runDirectory).catch((error: unknown) => {
    deps.logger.log("warn", "A machine's logs could not be shortened.", {
      machine: id,
      error: String(error),
    });
  });
}
