// Child processes with limits. Each runs in its own process group, so that ending it also ends what it
// started.

import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { constants, homedir } from "node:os";
import { FormationError } from "@formation-mcp/contract";
import { collectOutput } from "./child-output.ts";
import { groupMembers } from "./processes.ts";
import { waitFor } from "./wait.ts";

export interface RunOptions {
  signal?: AbortSignal;
  /** The child is ended after so many milliseconds. */
  timeoutMs: number;
  cwd?: string;
  /** The child's whole environment; nothing is inherited. Default: {@link plainEnvironment}. */
  env?: Record<string, string>;
  input?: string | Uint8Array;
  /** Called for each line, without its line end. Lines are cut at 64 KiB. */
  onLine?: (stream: "stdout" | "stderr", line: string) => void;
  /** How many of the last bytes of each stream are kept. Default: 1 MiB. */
  keepBytes?: number;
  /** Milliseconds between SIGTERM and SIGKILL to the group. Default: 5,000. */
  graceMs?: number;
}

export interface RunResult {
  /** The exit code, or 128 + the signal's number, as in shells. */
  code: number;
  stdout: string;
  stderr: string;
}

/** The longest delay that Node's timers support; a longer one fires at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** How long processes that a finished child left running may keep its output open. */
const OUTPUT_GRACE_MS = 1000;
/** How long a killed group may take to end. Only a process stuck in the kernel takes longer. */
const GONE_MS = 5000;

/** A small environment (PATH, HOME, locale) for child processes, without secrets of this process. */
export function plainEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const kept: Record<string, string> = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LC_ALL: "C.UTF-8",
  };
  try {
    const home = homedir();
    if (home) kept["HOME"] = home;
  } catch {
    // The user has no home directory.
  }
  return { ...kept, ...extra };
}

/**
 * Runs a program and waits until it ends. A non-zero exit code is a result, not an error.
 * @throws FormationError `unavailable` if the program cannot be started, `cancelled` if the signal aborts,
 *   `limit` after `timeoutMs`, `internal` if `onLine` throws. In the last three cases the whole process group
 *   has ended before the promise rejects.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  if (options.signal?.aborted) throw new FormationError("cancelled", `${file} was not started: cancelled.`);
  const child = start(file, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.env ?? plainEnvironment(),
    stdio: ["pipe", "pipe", "pipe"],
  });

  let ended: FormationError | undefined;
  let killer: NodeJS.Timeout | undefined;
  const end = (why: FormationError) => {
    if (ended) return;
    ended = why;
    signalGroup(child, "SIGTERM");
    killer = setTimeout(() => signalGroup(child, "SIGKILL"), clamp(options.graceMs ?? 5000));
  };
  const onLine = options.onLine;
  const collect = (name: "stdout" | "stderr") =>
    collectOutput(
      child[name],
      options.keepBytes ?? 1024 * 1024,
      onLine &&
        ((line) => {
          try {
            onLine(name, line);
          } catch (error) {
            end(FormationError.from(error, `What ${file} printed could not be taken over.`));
          }
        }),
    );
  const outputs = [collect("stdout"), collect("stderr")] as const;
  child.stdin?.on("error", () => {}); // the child may close it without reading
  child.stdin?.end(options.input ?? "");

  const onAbort = () => end(new FormationError("cancelled", `${file} was cancelled.`));
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => {
    end(new FormationError("limit", `${file} did not end within ${formatMs(options.timeoutMs)}.`));
  }, clamp(options.timeoutMs));
  try {
    const code = await exitOf(child, file);
    signalGroup(child, "SIGKILL"); // processes that it left running in its group
    for (const output of outputs) output.finish();
    if (ended) {
      await groupGone(child);
      throw ended;
    }
    return { code, stdout: outputs[0].text(), stderr: outputs[1].text() };
  } finally {
    clearTimeout(timer);
    clearTimeout(killer); // its pid may be reused
    options.signal?.removeEventListener("abort", onAbort);
    // A process that left the group may keep the pipes open; that must not keep this process alive.
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
}

/**
 * Like {@link run}, but a non-zero exit code is an `unavailable` error with the end of stderr in its message.
 */
export async function runChecked(
  file: string,
  args: readonly string[],
  options: RunOptions,
): Promise<RunResult> {
  const result = await run(file, args, options);
  if (result.code === 0) return result;
  const said = result.stderr.trim().split("\n").slice(-5).join("\n") || result.stdout.trim().slice(-400);
  throw new FormationError("unavailable", `${file} ended with code ${result.code}: ${said}`, {
    exit_code: result.code,
  });
}

export interface DetachedOptions {
  cwd: string;
  env: Record<string, string>;
  /** The child's descriptors from 0 on: `"ignore"` or an open descriptor of this process; never a pipe. */
  stdio: StdioOptions;
}

/**
 * Starts a program in its own session, so that it outlives this process.
 * @returns its pid, once it runs.
 * @throws FormationError `unavailable` if it cannot be started.
 */
export async function spawnDetached(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
): Promise<number> {
  const child = start(file, args, options);
  const pid = await new Promise<number>((resolve, reject) => {
    child.once("spawn", () => resolve(child.pid as number));
    child.once("error", (cause) => reject(notStarted(file, cause)));
  });
  child.on("error", () => {});
  child.unref();
  return pid;
}

function start(
  file: string,
  args: readonly string[],
  options: { cwd?: string; env: Record<string, string>; stdio: StdioOptions },
): ChildProcess {
  try {
    return spawn(file, args, { ...options, detached: true });
  } catch (cause) {
    // Some failures are events; others are thrown, for example a NUL in an argument.
    throw notStarted(file, cause as Error);
  }
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has ended.
  }
}

async function groupGone(child: ChildProcess): Promise<void> {
  const group = child.pid;
  if (group === undefined) return;
  const what = `process group ${group} to end`;
  await waitFor(() => groupMembers(group).length === 0, { timeoutMs: GONE_MS, everyMs: 10, what }).catch(
    () => {},
  );
}

function exitOf(child: ChildProcess, file: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let code = 0;
    let outputTimer: NodeJS.Timeout | undefined;
    child.once("error", (cause) => reject(notStarted(file, cause)));
    child.once("exit", (exit, signal) => {
      code = exit ?? 128 + (signal ? constants.signals[signal] : 0);
      outputTimer = setTimeout(() => resolve(code), OUTPUT_GRACE_MS);
    });
    child.once("close", () => {
      clearTimeout(outputTimer);
      resolve(code);
    });
  });
}

function notStarted(file: string, cause: Error): FormationError {
  return new FormationError("unavailable", `${file} cannot be started: ${cause.message}.`, {
    cause,
    remedy: "Run `formation-mcp doctor` to see what this machine lacks.",
  });
}

function clamp(ms: number): number {
  return Math.min(Math.max(ms, 0), MAX_TIMER_MS);
}

function formatMs(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${Math.round(ms / 1000)} s`;
}
