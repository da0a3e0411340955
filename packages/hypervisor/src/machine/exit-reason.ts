// Why a machine's process ended, concluded from what it left: QMP's SHUTDOWN event if we saw it, else the
// guest's report, QEMU's log and the guest's console.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { readTail } from "../logs/tail.ts";
import type { MachineStatus } from "../port.ts";
import { MACHINE_FILES } from "./files.ts";

export type ExitReason = NonNullable<MachineStatus["exit"]>["reason"];

export interface ExitTraces {
  runDirectory: string;
  /** Whether a stop had been asked for. */
  stopping: boolean;
  /** `reason` of the SHUTDOWN event (QEMU's QMP reference, ShutdownCause); null if none was seen. */
  shutdownCause: string | null;
  /** The entrypoint's exit code, if the guest reported it. */
  exitCode: number | null;
}

export function exitReason(traces: ExitTraces): ExitReason {
  if (traces.stopping) return "stopped";
  switch (traces.shutdownCause) {
    case "guest-shutdown":
      return "guest-shutdown";
    case "guest-reset":
    case "guest-panic":
      return "guest-panic";
    case null:
      break;
    default:
      return "killed";
  }
  if (traces.exitCode !== null) return "guest-shutdown";
  const inRunDirectory = (file: string) => join(traces.runDirectory, file);
  // QEMU removes its socket when it ends by itself.
  if (existsSync(inRunDirectory(MACHINE_FILES.qmp))) return "killed";
  if (/terminating on signal/.test(readTail(inRunDirectory(MACHINE_FILES.log), 4096))) return "killed";
  return /Kernel panic/.test(readTail(inRunDirectory(MACHINE_FILES.console), 16_384))
    ? "guest-panic"
    : "guest-shutdown";
}
