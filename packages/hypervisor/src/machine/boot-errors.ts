// Why a machine did not become live, told to its owner: what happened, what to do, and the last lines of the
// workload's log or of the guest's console.

import { join } from "node:path";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import { problemText } from "../guest/status-report.ts";
import { lastLines, readTail } from "../logs/tail.ts";
import { MACHINE_FILES } from "./files.ts";
import type { Machine } from "./machine.ts";

/** What the kernel prints when the machine has too little memory. */
const OUT_OF_MEMORY =
  /out of memory|Out of memory|deadlocked on memory|Initramfs unpacking failed|not enough memory/i;
/** Below this the kernel and the initramfs hardly fit. */
const SMALL_MEMORY_MB = 128;
const TAIL_BYTES = 64 * 1024;

/** The error for a machine whose process ended before it was live. */
export function endedError(machine: Machine): FormationError {
  const { report, journal } = machine;
  if (journal.stopping) return new FormationError("cancelled", "The machine was stopped before it was live.");
  if (report.problem !== null) return notStarted(machine, report.problem);
  if (report.exit_code !== null) return entrypointEnded(machine, report.exit_code);
  if (journal.exit?.reason === "guest-panic" && report.started) return kernelCrashed(machine);
  if (journal.exit?.leash) {
    return new FormationError(
      "unavailable",
      "The machine was ended while it booted: nobody prolonged its leash.",
      {
        remedy: "The worker was not sure of its lease: look whether its node and the database keep up.",
        step: "boot",
      },
    );
  }
  if (journal.exit?.reason === "killed") {
    return new FormationError("unavailable", "The machine's process was killed while it booted.", {
      remedy: "Try again; if it happens again, look whether the node ran out of memory.",
      step: "boot",
    });
  }
  return notBooted(machine, "The guest ended before the entrypoint was started.");
}

/** The error for a machine that runs, but was not live in time. */
export function lateError(machine: Machine, timeoutMs: number): FormationError {
  const { report, journal } = machine;
  const seconds = Math.round(timeoutMs / 1000);
  if (!report.started) return notBooted(machine, `The guest did not boot within ${seconds} s.`);
  const port = journal.ports[0]?.guest_port ?? 0;
  const isOnLoopback = report.loopback.includes(port);
  return new FormationError(
    "limit",
    isOnLoopback
      ? `Port ${port} listens on the guest's loopback address only, where nobody outside can reach it.`
      : `The entrypoint runs, but nothing listened on port ${port} within ${seconds} s.`,
    {
      remedy: isOnLoopback
        ? "Let the program listen on 0.0.0.0 instead of 127.0.0.1."
        : `Let the program listen on port ${port}, or expose the port that it uses.`,
      step: "listen",
      log_tail: workloadTail(machine),
    },
  );
}

function notStarted(machine: Machine, problem: string): FormationError {
  const { report, journal } = machine;
  return new FormationError(
    "invalid",
    `The workload could not be started: ${problemText(problem, journal.process)}.`,
    {
      remedy: remedyFor(problem),
      step: "entrypoint",
      ...(report.exit_code === null ? {} : { exit_code: report.exit_code }),
      log_tail: workloadTail(machine),
    },
  );
}

function entrypointEnded(machine: Machine, exitCode: number): FormationError {
  const isStarved = /Out of memory: Killed/.test(consoleText(machine));
  return new FormationError(
    isStarved ? "limit" : "invalid",
    isStarved
      ? `The entrypoint was killed: ${machine.journal.memory_mb} MB of memory are too little for it.`
      : `The entrypoint ended with code ${exitCode} before the machine was live.`,
    {
      remedy: isStarved
        ? "Give it more memory_mb."
        : "The entrypoint must keep running in the foreground; look at its log for why it ended.",
      step: "entrypoint",
      exit_code: exitCode,
      log_tail: workloadTail(machine),
    },
  );
}

function kernelCrashed(machine: Machine): FormationError {
  const text = consoleText(machine);
  const isStarved = OUT_OF_MEMORY.test(text);
  return new FormationError(
    isStarved ? "limit" : "invalid",
    "The guest's kernel crashed under the workload.",
    {
      remedy: isStarved
        ? `Give it more memory_mb than ${machine.journal.memory_mb}.`
        : "Look at the guest's console below.",
      step: "entrypoint",
      log_tail: lastLines(text, LIMITS.errorLogLines),
    },
  );
}

function notBooted(machine: Machine, message: string): FormationError {
  const text = consoleText(machine);
  const { memory_mb } = machine.journal;
  const isSmall = OUT_OF_MEMORY.test(text) || memory_mb < SMALL_MEMORY_MB;
  return new FormationError(
    isSmall ? "limit" : "unavailable",
    isSmall ? `${message} memory_mb ${memory_mb} is probably too little for it.` : message,
    {
      remedy: isSmall
        ? "Give it more memory_mb: 128 at least, 256 for most programs."
        : "Look at the guest's console below.",
      step: "boot",
      log_tail: lastLines(text, LIMITS.errorLogLines),
    },
  );
}

function remedyFor(problem: string): string {
  switch (problem) {
    case "no_user":
    case "no_group":
      return "Create that account in a run line, or name one that the base image has.";
    case "no_workdir":
      return "Create that directory in a run line.";
    case "not_executable":
      return "Make the file executable: chmod +x in a run line.";
    default:
      return "Check the entrypoint's spelling, and that the image or the included files hold it.";
  }
}

function consoleText(machine: Machine): string {
  return readTail(join(machine.runDirectory, MACHINE_FILES.console), TAIL_BYTES);
}

function workloadTail(machine: Machine): string[] {
  const read = (file: "out" | "err") =>
    lastLines(readTail(join(machine.runDirectory, MACHINE_FILES[file]), TAIL_BYTES), LIMITS.errorLogLines);
  return [...read("out"), ...read("err")].slice(-LIMITS.errorLogLines);
}
