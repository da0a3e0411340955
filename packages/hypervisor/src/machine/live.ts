// When a machine counts as live: when the guest's own init reports that the first port listens. A connection
// that a forwarded port accepts proves nothing.

import { FormationError } from "@formation-mcp/contract";
import type { StartHooks } from "../port.ts";
import { endedError, lateError } from "./boot-errors.ts";
import type { Machine } from "./machine.ts";

/** Without a port to watch, a workload that has run this long is live. */
const MIN_UPTIME_MS = 2000;
const POLL_MS = 1000;

/** See `Hypervisor.waitLive`. */
export async function waitLive(machine: Machine, hooks: StartHooks & { timeoutMs: number }): Promise<void> {
  const end = performance.now() + hooks.timeoutMs;
  const firstPort = machine.journal.ports[0]?.guest_port;
  let startedAt: number | null = null;
  hooks.onStep?.("boot", "The guest is starting.");
  for (;;) {
    if (hooks.signal.aborted) throw new FormationError("cancelled", "No longer waiting for the machine.");
    machine.readStatus();
    machine.noteExit();
    const now = performance.now();
    const { report } = machine;
    if (report.started && startedAt === null) {
      startedAt = now;
      hooks.onStep?.("entrypoint", "The entrypoint runs.");
    }
    if (!machine.alive) throw endedError(machine);
    const uptimeMs = startedAt === null ? 0 : now - startedAt;
    const isLive = firstPort === undefined ? uptimeMs >= MIN_UPTIME_MS : report.listening.includes(firstPort);
    if (isLive && report.exit_code === null) {
      const message =
        firstPort === undefined ? "The entrypoint is still running." : `Port ${firstPort} is listening.`;
      hooks.onStep?.("listen", message);
      return;
    }
    if (now >= end) throw lateError(machine, hooks.timeoutMs);
    const next = firstPort === undefined && startedAt !== null ? MIN_UPTIME_MS - uptimeMs : POLL_MS;
    await machine.nextChange(Math.min(next, end - now), hooks.signal);
  }
}
