// Starting a machine until it is live, and saying what the guest printed when it did not get there.

import { setTimeout as delay } from "node:timers/promises";
import { type ErrorRecord, FormationError, type Id, LIMITS } from "@formation-mcp/contract";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import type { Leash } from "./leash.ts";
import type { Room } from "./room.ts";

const GUEST_STREAMS = ["stdout", "stderr", "console"];
/** How long the last lines of a guest may be on their way, and how often we look whether more have come. */
const SETTLE_MS = 1500;
const LOOK_MS = 100;
/** So many looks without a new line are quiet; more where none came at all. */
const QUIET = 3;
const SILENT = 6;

export interface BootOptions {
  instanceId: Id<"vm">;
  machineId: string;
  signal: AbortSignal;
  timeoutMs: number;
  onStep(step: string, message: string): void;
  /** The leash that it is started on; absent: whatever becomes of us, it may run on. */
  leash?: Pick<Leash, "start">;
}

/**
 * Starts a machine and waits until it is live.
 * @throws FormationError with the guest's last lines.
 */
export async function boot(room: Room, options: BootOptions): Promise<MachineStatus> {
  const { hypervisor, settings, clock, logs } = room;
  const { instanceId, machineId, signal, onStep, leash } = options;
  const since = clock.now();
  const seen = logs.count(instanceId);
  let ran = false;
  room.follow(machineId, instanceId);
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
    const tail = ran ? await lastLines(room, instanceId, since, seen) : [];
    const details: Omit<ErrorRecord, "code" | "message"> = { step: "boot", ...error.details };
    if (tail.length > 0 && !details.log_tail) details.log_tail = tail;
    details.remedy ??= "Read the last lines of the log; correct the formfile, build, and ship again.";
    throw new FormationError(error.code, error.message, { ...details, cause: error.cause });
  }
}

/** The guest's last lines since a time, once no more of them come. */
async function lastLines(room: Room, instanceId: string, since: number, seen: number): Promise<string[]> {
  const end = room.monotonic() + SETTLE_MS;
  let count = seen;
  let quiet = 0;
  while (room.monotonic() < end && quiet < (count > seen ? QUIET : SILENT)) {
    await delay(LOOK_MS);
    const now = room.logs.count(instanceId);
    quiet = now === count ? quiet + 1 : 0;
    count = now;
  }
  const lines = await room.logs.tail(instanceId, since, GUEST_STREAMS).catch(() => []);
  return lines.slice(-LIMITS.errorLogLines);
}
