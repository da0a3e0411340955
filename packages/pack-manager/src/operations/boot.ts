// Starting a machine until it is live, and saying what the guest printed when it did not get there.

import { setTimeout as delay } from "node:timers/promises";
import { type ErrorRecord, FormationError, type Id, LIMITS } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { LeashRenewal } from "../attempt/leash-renewal.ts";
import type { WorkerDeps } from "../deps.ts";

const GUEST_STREAMS = ["stdout", "stderr", "console"];
/** The last lines of a guest may be on their way for so long; so often we look whether more have come. */
const LAST_LINES_MS = 1500;
const LOOK_EVERY_MS = 100;
/** After so many looks without a new line the guest is taken to be silent; after more where it never printed any. */
const QUIET_LOOKS = 3;
const QUIET_LOOKS_WITHOUT_LINES = 6;

export interface BootOptions {
  instanceId: Id<"vm">;
  machineId: string;
  signal: AbortSignal;
  timeoutMs: number;
  onStep(step: string, message: string): void;
  /** The leash that it is started on; absent: whatever becomes of us, it may run on. */
  leash?: Pick<LeashRenewal, "start">;
}

/**
 * Starts a machine and waits until it is live.
 * @throws FormationError with the guest's last lines.
 */
export async function boot(deps: WorkerDeps, options: BootOptions): Promise<MachineStatus> {
  const { hypervisor, settings, clock, logs } = deps;
  const { instanceId, machineId, signal, onStep, leash } = options;
  const since = clock.now();
  const seen = logs.count(instanceId);
  let ran = false;
  deps.follow(machineId, instanceId);
  try {
    onStep("boot", "Starting the machine.");
    const start = (tied: { leashMs?: number }) => hypervisor.start(machineId, { signal, onStep, ...tied });
    await (leash ? leash.start(machineId, (leashMs) => start({ leashMs })) : start({}));
    ran = true;
    const timeoutMs = Math.max(1, Math.min(settings.bootMs, options.timeoutMs));
    return await hypervisor.waitLive(machineId, { signal, onStep, timeoutMs });
  } catch (thrown) {
    const error = FormationError.from(thrown, "The machine could not be started.");
    if (error.code === "cancelled") throw error;
    const details: Omit<ErrorRecord, "code" | "message"> = { step: "boot", ...error.details };
    if (ran) {
      await untilQuiet(deps, instanceId, seen);
      // The hypervisor knows the last lines of a machine that did not become live, but not of one that was killed.
      details.log_tail ??= await lastLines(deps, instanceId, since);
      if (details.log_tail.length === 0) delete details.log_tail;
    }
    details.remedy ??= "Read the last lines of the log; correct the formfile, build, and ship again.";
    throw new FormationError(error.code, error.message, { ...details, cause: error.cause });
  }
}

/**
 * Waits until no more lines of a guest come. Whoever handles the failure removes the machine, and with it all that its
 * follower has not read yet: without this pause the instance's log would lack the lines that say why it failed.
 */
async function untilQuiet(deps: WorkerDeps, instanceId: string, seen: number): Promise<void> {
  const end = deps.monotonic() + LAST_LINES_MS;
  let count = seen;
  let quiet = 0;
  while (deps.monotonic() < end && quiet < (count > seen ? QUIET_LOOKS : QUIET_LOOKS_WITHOUT_LINES)) {
    await delay(LOOK_EVERY_MS);
    const now = deps.logs.count(instanceId);
    quiet = now === count ? quiet + 1 : 0;
    count = now;
  }
}

async function lastLines(deps: WorkerDeps, instanceId: string, since: number): Promise<string[]> {
  const lines = await deps.logs.tail(instanceId, since, GUEST_STREAMS).catch(() => []);
  return lines.slice(-LIMITS.errorLogLines);
}
