// Ending a machine: the power button until the guest hears it, then harder means, each after its time.

import { FormationError } from "@formation-mcp/contract";
import { sendSignal, waitGone } from "@formation-mcp/os";
import type { Engine } from "./deps.ts";
import type { Machine } from "./machine.ts";
import { release } from "./start.ts";

/** The guest passes over a second press within this time; see the guest's init. */
const PRESS_APART_MS = 2000;
/** What the guest gets to power off after it killed its workload. */
const POWER_OFF_MS = 4000;
const QUIT_MS = 2000;

export async function stopMachine(
  engine: Engine,
  machine: Machine,
  options: { timeoutMs: number; signal?: AbortSignal },
): Promise<void> {
  machine.settle();
  if (machine.alive) {
    machine.noteIfRoom({ stopping: true });
    if (machine.journal.paused) {
      await machine.qmp?.execute("cont").catch(() => {});
      machine.noteIfRoom({ paused: false });
    }
    if (options.timeoutMs > 0) await askGuest(machine, options);
    await kill(machine);
    machine.settle();
  }
  await release(engine, machine.journal);
}

/** Holds the guest's processors, or lets them go on. */
export async function setPaused(machine: Machine, paused: boolean): Promise<void> {
  machine.settle();
  if (!machine.alive) {
    throw new FormationError("conflict", "The machine does not run.", { remedy: "Start it first." });
  }
  if (machine.qmp === null)
    throw new FormationError("unavailable", "The machine does not answer.", { remedy: "Try again." });
  // Written first: a crash in between is put right by asking QEMU at recovery.
  machine.note({ paused });
  await machine.qmp.execute(paused ? "stop" : "cont");
  machine.wake();
}

/** Ends the process by all means. */
export async function kill(machine: Machine): Promise<void> {
  const { qemu } = machine.journal;
  if (qemu === null || !machine.alive) return;
  await machine.qmp?.execute("quit").catch(() => {});
  if (machine.qmp !== null && (await waitGone(qemu, QUIT_MS))) return;
  sendSignal(qemu, "SIGKILL");
  if (await waitGone(qemu, 10_000)) return;
  throw new FormationError("unavailable", `Process ${qemu.pid} cannot be killed.`, {
    remedy: "It hangs in the kernel; look at the node's disk and its kernel log.",
  });
}

async function askGuest(
  machine: Machine,
  options: { timeoutMs: number; signal?: AbortSignal },
): Promise<void> {
  const begin = performance.now();
  let heard: number | null = null;
  let pressed = Number.NEGATIVE_INFINITY;
  for (;;) {
    machine.readStatus();
    if (!machine.alive || machine.qmp === null) return;
    const now = performance.now();
    if (machine.report.stopping) heard ??= now;
    const due = Math.max(begin + options.timeoutMs, (heard ?? begin) + PRESS_APART_MS);
    if (now > due + POWER_OFF_MS || options.signal?.aborted) return;
    // Until it hears; and once more when its time is over: then it kills the workload.
    if (now - pressed >= 1000 && (heard === null || now >= due)) {
      pressed = now;
      await machine.qmp.execute("system_powerdown").catch(() => {});
    }
    await machine.change(heard === null || now >= due ? 250 : Math.min(250, due - now), options.signal);
  }
}
