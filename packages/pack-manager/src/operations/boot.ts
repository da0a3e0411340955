// Starts a machine and waits until it is live; a failure carries what the guest printed last. This folder
// knows what each kind of operation does, and how it is undone.

import { setTimeout as delay } from "node:timers/promises";
import { type ErrorRecord, FormationError, type Id, LIMITS } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { LeashRenewal } from "../attempt/leash-renewal.ts";
import type { WorkerDeps } from "../deps.ts";

const GUEST_STREAMS = ["stdout", "stderr", "console"];
/** How long the last lines of a guest may take to arrive. */
const MAX_LAST_LINES_MS = 1500;
/** How often the number of lines is compared meanwhile. */
const LINE_CHECK_MS = 100;
/** After this many checks without a new line the guest counts as silent. */
const SILENT_CHECKS = 3;
/** The same for a guest that has printed nothing at all. */
const SILENT_CHECKS_WITHOUT_LINES = 6;

export interface BootOptions {
  instanceId: Id<"vm">;
  machineId: string;
  signal: AbortSignal;
  timeoutMs: number;
  onStep(step: string, message: string): void;
  /** The leash to start the machine on. Without it the machine runs on if this worker dies. */
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
  const linesBefore = logs.count(instanceId);
  let ran = false;
  deps.followers.follow(machineId, instanceId);
  try {
    onStep("boot", "Starting the machine.");
    const start = (options: { leashMs?: number }) =>
      hypervisor.start(machineId, { signal, onStep, ...options });
    await (leash ? leash.start(machineId, (leashMs) => start({ leashMs })) : start({}));
    ran = true;
    const timeoutMs = Math.max(1, Math.min(settings.bootMs, options.timeoutMs));
    return await hypervisor.waitLive(machineId, { signal, onStep, timeoutMs });
  } catch (thrown) {
    const error = FormationError.from(thrown, "The machine could not be started.");
    if (error.code === "cancelled") throw error;
    const details: Omit<ErrorRecord, "code" | "message"> = { step: "boot", ...error.details };
    if (ran) {
      await waitUntilSilent(deps, instanceId, linesBefore);
      // The hypervisor gives the last lines of a machine that did not become live, but not of one that was
      // killed.
      details.log_tail ??= await lastLines(deps, instanceId, since);
      if (details.log_tail.length === 0) delete details.log_tail;
    }
    details.remedy ??= "Read the last lines of the log; correct the formfile, build, and ship again.";
    throw new FormationError(error.code, error.message, { ...details, cause: error.cause });
  }
}

/**
 * Waits until a guest prints no more lines. The caller removes the machine after the failure, and with it all
 * that its log follower has not read yet: without this pause the instance's log would lack the lines that say
 * why it failed.
 */
async function waitUntilSilent(deps: WorkerDeps, instanceId: string, linesBefore: number): Promise<void> {
  const end = deps.monotonic() + MAX_LAST_LINES_MS;
  let count = linesBefore;
  let silentChecks = 0;
  const enough = () => (count > linesBefore ? SILENT_CHECKS : SILENT_CHECKS_WITHOUT_LINES);
  while (deps.monotonic() < end && silentChecks < enough()) {
    await delay(LINE_CHECK_MS);
    const now = deps.logs.count(instanceId);
    silentChecks = now === count ? silentChecks + 1 : 0;
    count = now;
  }
}

async function lastLines(deps: WorkerDeps, instanceId: string, since: number): Promise<string[]> {
  const lines = await deps.logs.tail(instanceId, since, GUEST_STREAMS).catch(() => []);
  return lines.slice(-LIMITS.errorLogLines);
}
