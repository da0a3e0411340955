// Putting right what an earlier process left: machines that run are taken back, whatever is half-made or half-removed goes,
// and nothing of ours stays that no journal knows.

import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { boundLogs, UNFOLLOWED_BYTES } from "../logs/follow.ts";
import { type Engine, placeOf } from "./deps.ts";
import type { Journal } from "./journal.ts";
import { ioProblem, Machine } from "./machine.ts";
import { killAll, processesBelow } from "./processes.ts";
import { release } from "./start.ts";

export async function recover(engine: Engine): Promise<void> {
  const root = join(engine.settings.stateDir, "machines");
  const processes = processesBelow(root);
  const kept = new Set<string>();
  for (const id of engine.journals.ids()) {
    const journal = readable(engine, id);
    const machine = journal && whole(engine, journal) ? new Machine(engine, journal) : null;
    if (machine === null) continue; // half-made: discarded below, once its processes are gone
    engine.machines.set(id, machine);
    if (machine.journal.phase === "running" && machine.alive) kept.add(id);
  }
  for (const [id, found] of processes) {
    // A machine that is taken back keeps what it runs; all else was started by a process that died before it could say so.
    if (!kept.has(id)) await killAll(found);
  }
  for (const id of engine.journals.ids()) {
    if (engine.machines.has(id) || engine.broken.has(id)) continue;
    engine.journals.discard(id);
  }
  for (const name of readdirSync(root)) {
    if (name.startsWith("~")) rmSync(join(root, name), { recursive: true, force: true });
  }
  const running = [...kept].flatMap((id) => engine.machines.get(id)?.journal ?? []);
  await engine.runner.keepOnly(running);
  for (const machine of engine.machines.values()) {
    await trimLogs(engine, machine.journal.id);
    machine.settle();
    if (machine.alive) await reattach(engine, machine);
    else await release(engine, machine.journal);
  }
}

/** Connects to a machine that runs without us listening; what fails now is tried again by the next look at it. */
export async function reattach(engine: Engine, machine: Machine): Promise<void> {
  try {
    await machine.attach();
    const status = (await machine.qmp?.execute("query-status")) as { status?: string } | undefined;
    const paused = status?.status === "paused";
    if (paused !== machine.journal.paused) machine.note({ paused });
    machine.problem = status?.status === "io-error" ? ioProblem(await isFull(machine)) : null;
  } catch (error) {
    machine.problem = "its process runs but does not answer";
    engine.logger.log("warn", "A machine's control socket does not answer.", {
      machine: machine.journal.id,
      error: String(error),
    });
  }
}

async function isFull(machine: Machine): Promise<boolean> {
  const drives = (await machine.qmp?.execute("query-block")) as { "io-status"?: string }[] | undefined;
  return drives?.some((drive) => drive["io-status"] === "nospace") ?? false;
}

/** What piled up while nobody ran here, before anybody begins to read it. */
async function trimLogs(engine: Engine, id: string): Promise<void> {
  const { directory, runDirectory } = placeOf(engine, id);
  await boundLogs(directory, runDirectory, UNFOLLOWED_BYTES).catch((error: unknown) => {
    engine.logger.log("warn", "A machine's logs could not be shortened.", {
      machine: id,
      error: String(error),
    });
  });
}

/** Undefined: no journal at all. Null: one that cannot be understood; the machine is broken then, and kept. */
function readable(engine: Engine, id: string): Journal | null | undefined {
  try {
    return engine.journals.read(id) ?? undefined;
  } catch {
    engine.broken.add(id);
    return null;
  }
}

function whole(engine: Engine, journal: Journal): boolean {
  if (journal.phase === "creating" || journal.phase === "removing") return false;
  return existsSync(placeOf(engine, journal.id).runDirectory);
}
