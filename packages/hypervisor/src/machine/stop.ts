// Ending a machine's process: the power button until the guest reacts, then QMP's `quit`, then SIGKILL, each
// after its time. And pausing: holding the guest's processors.

import { FormationError } from "@formation-mcp/contract";
import { sendSignal, waitForExit } from "@formation-mcp/os";
import type { HypervisorDeps } from "./deps.ts";
import type { Machine } from "./machine.ts";
import { releaseResources } from "./release.ts";

/** The guest's init ignores a second press of the power button that comes sooner than this. */
const MIN_PRESS_INTERVAL_MS = 2000;
/** How long the guest may take to power off after its init killed the workload. */
const POWER_OFF_MS = 4000;
const QUIT_MS = 2000;
const KILL_MS = 10_000;
const POLL_MS = 250;

export interface StopOptions {
  /** For the workload to end by itself; 0: kill the process at once. */
  timeoutMs: number;
  /** Aborted: do not wait for the guest any longer. */
  signal?: AbortSignal;
}

/** See `Hypervisor.stop`. */
export async function stopMachine(
  deps: HypervisorDeps,
  machine: Machine,
  options: StopOptions,
): Promise<void> {
  machine.noteExit();
  if (machine.alive) {
    machine.noteIfPossible({ stopping: true });
    if (machine.journal.paused) {
      await machine.qmp?.execute("cont").catch(() => {});
      machine.noteIfPossible({ paused: false });
    }
    if (options.timeoutMs > 0) await shutDownGuest(machine, options);
    await killProcess(machine);
    machine.noteExit();
  }
  await releaseResources(deps, machine.journal);
}

/**
 * Holds the guest's processors, or lets them run on.
 * @throws FormationError `conflict` if the machine does not run.
 */
export async function setPaused(machine: Machine, paused: boolean): Promise<void> {
  machine.noteExit();
  if (!machine.alive) {
    throw new FormationError("conflict", "The machine does not run.", { remedy: "Start it first." });
  }
  if (machine.qmp === null)
    throw new FormationError("unavailable", "The machine does not answer.", { remedy: "Try again." });
  // Recorded first: after a crash in between, recovery asks QEMU for the truth.
  machine.note({ paused });
  await machine.qmp.execute(paused ? "stop" : "cont");
  machine.announceChange();
}

/** Ends the process, by SIGKILL if need be; resolves when it is gone. */
export async function killProcess(machine: Machine): Promise<void> {
  const { qemu } = machine.journal;
  if (qemu === null || !machine.alive) return;
  await machine.qmp?.execute("quit").catch(() => {});
  if (machine.qmp !== null && (await waitForExit(qemu, QUIT_MS))) return;
  sendSignal(qemu, "SIGKILL");
  if (await waitForExit(qemu, KILL_MS)) return;
  throw new FormationError("unavailable", `Process ${qemu.pid} cannot be killed.`, {
    remedy: "It hangs in the kernel; look at the node's disk and its kernel log.",
  });
}

/**
 * Presses the power button until the guest reacts, and again when its time is over; returns when it is off or
 * late.
 */
async function shutDownGuest(machine: Machine, { timeoutMs, signal }: StopOptions): Promise<void> {
  const begin = performance.now();
  let reactedAt: number | null = null;
  let pressedAt = Number.NEGATIVE_INFINITY;
  for (;;) {
    machine.readStatus();
    if (!machine.alive || machine.qmp === null) return;
    const now = performance.now();
    if (machine.report.stopping) reactedAt ??= now;
    const due = Math.max(begin + timeoutMs, (reactedAt ?? begin) + MIN_PRESS_INTERVAL_MS);
    if (now > due + POWER_OFF_MS || signal?.aborted) return;
    // The press after `due` makes the guest's init kill the workload.
    if (now - pressedAt >= 1000 && (reactedAt === null || now >= due)) {
      pressedAt = now;
      await machine.qmp.execute("system_powerdown").catch(() => {});
    }
    const isWaiting = reactedAt !== null && now < due;
    await machine.nextChange(isWaiting ? Math.min(POLL_MS, due - now) : POLL_MS, signal);
  }
}
