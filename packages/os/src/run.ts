// Child processes with a limit: each runs in a process group of its own, so that ending it ends all it started.

import { type ChildProcess, type StdioOptions, spawn } from "node:child_process";
import { FormationError } from "@formation-mcp/contract";

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

const SIGNAL_NUMBERS: Record<string, number> = { SIGHUP: 1, SIGINT: 2, SIGKILL: 9, SIGTERM: 15 };
const LINE_BYTES = 64 * 1024;

/** A small environment that programs can work with and that carries none of our secrets. */
export function plainEnvironment(extra: Record<string, string> = {}): Record<string, string> {
  const kept: Record<string, string> = {
    PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    LC_ALL: "C.UTF-8",
  };
  const home = process.env["HOME"];
  if (home) kept["HOME"] = home;
  return { ...kept, ...extra };
}

/**
 * Runs a program to its end; its exit code is a result, not an error.
 * @throws FormationError `unavailable` if the program cannot be started, `cancelled` if the signal aborts, `limit` after
 *   `timeoutMs`. In the last two the whole process group is gone when the promise rejects.
 */
export async function run(file: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  if (options.signal?.aborted) throw new FormationError("cancelled", `${file} was not started: cancelled.`);
  const child = spawn(file, args, {
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    env: options.env ?? plainEnvironment(),
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
  });
  const keep = options.keepBytes ?? 1024 * 1024;
  const stdout = collect(child.stdout, keep, (line) => options.onLine?.("stdout", line));
  const stderr = collect(child.stderr, keep, (line) => options.onLine?.("stderr", line));
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");

  let ended: "cancelled" | "limit" | undefined;
  const end = (why: "cancelled" | "limit") => {
    ended ??= why;
    signalGroup(child, "SIGTERM");
    setTimeout(() => signalGroup(child, "SIGKILL"), options.graceMs ?? 5000).unref();
  };
  const onAbort = () => end("cancelled");
  options.signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => end("limit"), options.timeoutMs);
  try {
    const code = await exitOf(child, file);
    signalGroup(child, "SIGKILL"); // whatever it left running in its group
    if (ended === "cancelled") throw new FormationError("cancelled", `${file} was cancelled.`);
    if (ended === "limit") {
      throw new FormationError(
        "limit",
        `${file} did not end within ${Math.round(options.timeoutMs / 1000)} s.`,
      );
    }
    return { code, stdout: stdout(), stderr: stderr() };
  } finally {
    clearTimeout(timer);
    options.signal?.removeEventListener("abort", onAbort);
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

/** Starts a program that outlives this process, in a session of its own. Resolves with its pid once it runs. */
export async function spawnDetached(
  file: string,
  args: readonly string[],
  options: DetachedOptions,
): Promise<number> {
  const child = spawn(file, args, { ...options, detached: true });
  const pid = await new Promise<number>((resolve, reject) => {
    child.once("spawn", () => resolve(child.pid as number));
    child.once("error", (cause) => reject(notStarted(file, cause)));
  });
  child.on("error", () => {});
  child.unref();
  return pid;
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // Nothing of the group is left.
  }
}

function exitOf(child: ChildProcess, file: string): Promise<number> {
  return new Promise((resolve, reject) => {
    child.once("error", (cause) => reject(notStarted(file, cause)));
    let code = 0;
    child.once("exit", (exit, signal) => {
      code = exit ?? 128 + (SIGNAL_NUMBERS[signal ?? ""] ?? 0);
      // A grandchild that holds the pipes open must not hold us: give the rest of the output a moment.
      setTimeout(() => resolve(code), 1000).unref();
    });
    child.once("close", () => resolve(code));
  });
}

function notStarted(file: string, cause: Error): FormationError {
  return new FormationError("unavailable", `${file} cannot be started: ${cause.message}.`, {
    cause,
    remedy: "Run `formation-mcp doctor` to see what this machine lacks.",
  });
}

function collect(
  stream: NodeJS.ReadableStream | null,
  keepBytes: number,
  onLine: (line: string) => void,
): () => string {
  let kept = "";
  let partial = "";
  const decoder = new TextDecoder();
  const take = (text: string) => {
    kept = (kept + text).slice(-keepBytes);
    const lines = (partial + text).split(/\r?\n/);
    partial = lines.pop() ?? "";
    for (const line of lines) onLine(line.slice(0, LINE_BYTES));
    if (partial.length > LINE_BYTES) {
      onLine(partial.slice(0, LINE_BYTES));
      partial = "";
    }
  };
  stream?.on("data", (chunk: Uint8Array) => take(decoder.decode(chunk, { stream: true })));
  stream?.on("end", () => {
    if (partial !== "") onLine(partial);
    partial = "";
  });
  stream?.on("error", () => {});
  return () => kept;
}
