// Starting a machine: the account, the kernel and the firewall first, then the launch, which is tried again
// if another worker took the same port or account at the same moment.

import { FormationError } from "@formation-mcp/contract";
import type { StartHooks } from "../port.ts";
import { freeAccount, handOver, isShared } from "./accounts.ts";
import type { HypervisorDeps } from "./deps.ts";
import { diskError } from "./disk-errors.ts";
import { AccountTaken, launch, PortTaken } from "./launch.ts";
import type { PendingLeash } from "./leash.ts";
import type { Machine } from "./machine.ts";
import { portTaken } from "./ports.ts";
import { releaseResources } from "./release.ts";

const MAX_LAUNCHES = 3;

/** See `Hypervisor.start`. When it fails, the machine has no process and holds nothing. */
export async function startMachine(
  deps: HypervisorDeps,
  machine: Machine,
  hooks: StartHooks,
  leash: PendingLeash | null,
): Promise<void> {
  machine.noteExit();
  if (machine.alive) return;
  if (hooks.signal.aborted) throw new FormationError("cancelled", "The machine was not started: cancelled.");
  await releaseResources(deps, machine.journal);
  try {
    ensureOwnAccount(deps, machine);
    await Promise.all([
      prepareBoot(deps, machine, hooks),
      // Takes time, so it is done beside the rest. `launch` asks again and records the answer.
      deps.driver.setEgress(machine.journal),
    ]);
    await launchWithRetries(deps, machine, hooks, leash);
  } catch (error) {
    machine.noteExit();
    if (machine.journal.phase === "stopped" && !machine.report.started) {
      machine.note({ exit: { reason: "killed", code: null } });
    }
    await releaseResources(deps, machine.journal);
    throw diskError(error);
  } finally {
    deps.reservedPorts.delete(machine.journal.id);
  }
}

async function launchWithRetries(
  deps: HypervisorDeps,
  machine: Machine,
  hooks: StartHooks,
  leash: PendingLeash | null,
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await launch(deps, machine, hooks, leash);
      return;
    } catch (error) {
      if (attempt === MAX_LAUNCHES) throw ownersError(error, deps);
      if (error instanceof PortTaken) machine.note({ forwards: [] });
      else if (error instanceof AccountTaken) {
        await releaseResources(deps, machine.journal);
        ensureOwnAccount(deps, machine);
        await prepareBoot(deps, machine, hooks);
      } else throw error;
    }
  }
}

function prepareBoot(deps: HypervisorDeps, machine: Machine, hooks: StartHooks): Promise<void> {
  return deps.driver.prepareBoot(machine.journal, deps.journals.paths(machine.journal.id), hooks);
}

/** Gives the machine another account if a process of another worker runs as its own by now. */
function ensureOwnAccount(deps: HypervisorDeps, machine: Machine): void {
  if (!isShared(machine.journal.uid, machine.runDirectory)) return;
  const uid = freeAccount(deps);
  machine.note({ uid });
  if (uid !== null) handOver(machine.runDirectory, uid);
}

function ownersError(error: unknown, deps: HypervisorDeps): unknown {
  if (error instanceof PortTaken) return portTaken(error.port, deps.settings.bindAddress);
  if (!(error instanceof AccountTaken)) return error;
  return new FormationError("unavailable", "No account number of this host is free for the machine.", {
    remedy: "Try again, or set another uidBase for this worker.",
    step: "boot",
  });
}
