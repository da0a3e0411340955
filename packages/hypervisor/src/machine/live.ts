// When a machine counts as live, and how to say why it is not: by what the guest's own init reports, never by whether a
// forwarded port accepts a connection.

import { join } from "node:path";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import { problemText } from "../guest/status-report.ts";
import { lastLines, readTail } from "../logs/tail.ts";
import type { StartHooks } from "../port.ts";
import { MACHINE_FILES } from "./files.ts";
import type { Machine } from "./machine.ts";

/** With no port to watch, a workload that lived this long is live. */
const LIVED_MS = 2000;

export async function waitLive(machine: Machine, hooks: StartHooks & { timeoutMs: number }): Promise<void> {
  const end = performance.now() + hooks.timeoutMs;
  let started: number | null = null;
  hooks.onStep?.("boot", "The guest is starting.");
  for (;;) {
    if (hooks.signal.aborted) throw new FormationError("cancelled", "No longer waiting for the machine.");
    machine.readStatus();
    machine.settle();
    const now = performance.now();
    const { report } = machine;
    if (report.started && started === null) {
      started = now;
      hooks.onStep?.("entrypoint", "The entrypoint runs.");
    }
    if (!machine.alive) throw ended(machine);
    const first = machine.journal.ports[0]?.guest_port;
    const live =
      first === undefined ? started !== null && now - started >= LIVED_MS : report.listening.includes(first);
    if (live && report.exit_code === null) {
      hooks.onStep?.(
        "listen",
        first === undefined ? "The entrypoint is still running." : `Port ${first} is listening.`,
      );
      return;
    }
    if (now >= end) throw late(machine, hooks.timeoutMs);
    const next = first === undefined && started !== null ? LIVED_MS - (now - started) : 1000;
    await machine.change(Math.min(next, end - now), hooks.signal);
  }
}

function ended(machine: Machine): FormationError {
  const { report, journal } = machine;
  if (journal.stopping) return new FormationError("cancelled", "The machine was stopped before it was live.");
  if (report.problem !== null) {
    return new FormationError(
      "invalid",
      `The workload could not be started: ${problemText(report.problem, journal.process)}.`,
      {
        remedy: remedyFor(report.problem),
        step: "entrypoint",
        ...(report.exit_code === null ? {} : { exit_code: report.exit_code }),
        log_tail: workloadTail(machine),
      },
    );
  }
  if (report.exit_code !== null) {
    const starved = /Out of memory: Killed/.test(consoleText(machine));
    return new FormationError(
      starved ? "limit" : "invalid",
      starved
        ? `The entrypoint was killed: ${journal.memory_mb} MB of memory are too little for it.`
        : `The entrypoint ended with code ${report.exit_code} before the machine was live.`,
      {
        remedy: starved
          ? "Give it more memory_mb."
          : "The entrypoint must keep running in the foreground; look at its log for why it ended.",
        step: "entrypoint",
        exit_code: report.exit_code,
        log_tail: workloadTail(machine),
      },
    );
  }
  if (journal.exit?.reason === "guest-panic" && report.started) {
    const starved = STARVED.test(consoleText(machine));
    return new FormationError(
      starved ? "limit" : "invalid",
      "The guest's kernel crashed under the workload.",
      {
        remedy: starved
          ? `Give it more memory_mb than ${journal.memory_mb}.`
          : "Look at the guest's console below.",
        step: "entrypoint",
        log_tail: lastLines(consoleText(machine), LIMITS.errorLogLines),
      },
    );
  }
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

function late(machine: Machine, timeoutMs: number): FormationError {
  const { report, journal } = machine;
  const seconds = Math.round(timeoutMs / 1000);
  if (!report.started) return notBooted(machine, `The guest did not boot within ${seconds} s.`);
  const port = journal.ports[0]?.guest_port ?? 0;
  const loopback = report.loopback.includes(port);
  return new FormationError(
    "limit",
    loopback
      ? `Port ${port} listens on the guest's loopback address only, where nobody outside can reach it.`
      : `The entrypoint runs, but nothing listened on port ${port} within ${seconds} s.`,
    {
      remedy: loopback
        ? "Let the program listen on 0.0.0.0 instead of 127.0.0.1."
        : `Let the program listen on port ${port}, or expose the port that it uses.`,
      step: "listen",
      log_tail: workloadTail(machine),
    },
  );
}

const STARVED =
  /out of memory|Out of memory|deadlocked on memory|Initramfs unpacking failed|not enough memory/i;
/** Below this the kernel and the initramfs hardly fit. */
const SMALL_MB = 128;

function notBooted(machine: Machine, message: string): FormationError {
  const text = consoleText(machine);
  const { memory_mb } = machine.journal;
  const small = STARVED.test(text) || memory_mb < SMALL_MB;
  return new FormationError(
    small ? "limit" : "unavailable",
    small ? `${message} memory_mb ${memory_mb} is probably too little for it.` : message,
    {
      remedy: small
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
  return readTail(join(machine.directory, MACHINE_FILES.console), 64 * 1024);
}

function workloadTail(machine: Machine): string[] {
  const read = (file: "out" | "err") =>
    lastLines(readTail(join(machine.directory, MACHINE_FILES[file]), 64 * 1024), LIMITS.errorLogLines);
  return [...read("out"), ...read("err")].slice(-LIMITS.errorLogLines);
}
