// Child processes with a limit: each runs in a process group of its own, so that ending it ends all it started.

import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { constants, homedir } from "node:os";
import { FormationError } from "@formation-mcp/contract";
import { collectOutput } from "./output.ts";
import { groupMembers } from "./processes.ts";
import { waitFor } from "./wait.ts";

export interface RunOptions {
  signal?: AbortSignal;
  /** Ends the child after so many milliseconds. */
  timeoutMs: number;
  cwd?: string;
  /** The child's whole environment; nothing is inherited beyond it. Default: PATH, HOME and the locale alone. */
  env?: Record<string, string>;
  input?: string | Uint8Array;
  /** Each line as it comes, without its end. Lines over 64 KiB are cut there. */
  onLine?: (stream: "stdout" | "stderr", line: string) => void;
  /** What of the output is kept, from its end, in bytes per stream. Default 1 MiB. */
  keepBytes?: number;
  /** How long after TERM the group is killed, in milliseconds. Default 5,000. */
  graceMs?: number;
}

export interface RunResult {
  /** The exit code, or 128 + the signal's number as shells count it. */
  code: number;
  stdout: string;
  stderr: string;
}

/** The longest delay a timer takes; beyond it Node's would fire at once. */
const MAX_TIMER_MS = 2 ** 31 - 1;
/** How long a finished child's output may still be held open by what it left running. */
const OUTPUT_GRACE_MS = 1000;
/** How long a killed group may take to be gone: only a process stuck in the kernel takes longer. */
const GONE_MS = 5000;

/** A small environment that programs can work with and that carries none of our secrets. */
export function plainEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const kept: Record<string, string> = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LC_ALL: "C.UTF-8",
  };
  try {
    const home = homedir();
    if (home) kept["HOME"] = home;
  } catch {
    // A user without a home directory has none to give.
  }
  return { ...kept, ...extra };
}

/**
 * Runs a program to its end; its exit code is a result, not an error.
 * @throws FormationError `unavailable` if the program cannot be started, `cancelled` if the signal aborts, `limit` after
 *   `timeoutMs`, `internal` if `onLine` throws. In the last three the whole process group is gone when the promise rejects.
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
  child.stdin?.on("error", () => {}); // a child that reads none of its input closes it
  child.stdin?.end(options.input ?? "");

  const onAbort = () => end(new FormationError("cancelled", `${file} was cancelled.`));
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => {
    end(new FormationError("limit", `${file} did not end within ${spell(options.timeoutMs)}.`));
  }, clamp(options.timeoutMs));
  try {
    const code = await exitOf(child, file);
    signalGroup(child, "SIGKILL"); // whatever it left running in its group
    for (const output of outputs) output.finish();
    if (ended) {
      await groupGone(child);
      throw ended;
    }
    return { code, stdout: outputs[0].text(), stderr: outputs[1].text() };
  } finally {
    clearTimeout(timer);
    clearTimeout(killer); // its pid may soon be somebody else's
    options.signal?.removeEventListener("abort", onAbort);
    // A process that left the group may hold the pipes open for ever: they must not hold us.
    child.stdout?.destroy();
    child.stderr?.destroy();
  }
}

/** Like {@link run}, but a non-zero exit code is an `unavailable` error that carries the end of stderr. */
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
  /** Descriptors of the child from 0 on: `"ignore"` or an open descriptor of ours; never a pipe. */
  stdio: StdioOptions;
}

/**
 * Starts a program that outlives this process, in a session of its own. Resolves with its pid once it runs.
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
    // Some failures come as events, others (too long a list of arguments, a NUL in one) are thrown.
    throw notStarted(file, cause as Error);
  }
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Nothing of the group is left.
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
    let patience: NodeJS.Timeout | undefined;
    child.once("error", (cause) => reject(notStarted(file, cause)));
    child.once("exit", (exit, signal) => {
      code = exit ?? 128 + (signal ? constants.signals[signal] : 0);
      patience = setTimeout(() => resolve(code), OUTPUT_GRACE_MS);
    });
    child.once("close", () => {
      clearTimeout(patience);
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

function spell(ms: number): string {
  return ms < 1000 ? `${ms} ms` : `${Math.round(ms / 1000)} s`;
}
