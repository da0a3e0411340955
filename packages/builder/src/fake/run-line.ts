// Runs one line for the fake driver within its limits: in a process group, and marked in its environment, so
// that processes that leave the group are found and killed too. This folder knows how the fake driver runs
// lines.

import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import { run, waitFor } from "@formation-mcp/os";
import type { ImageConfig } from "../image/config.ts";
import { exceededDiskLimit } from "../limit-watch.ts";
import type { BuildHooks, BuildRequest } from "../port.ts";

/** The configuration of a fake base image. */
export type FakeBase = Partial<
  Pick<ImageConfig, "user" | "env" | "entrypoint" | "cmd" | "workdir" | "ports">
>;

/** Thrown when the run's signal is aborted; the run knows the reason. */
export class BuildAborted extends Error {}

export class FakeRun {
  readonly #request: BuildRequest;
  readonly #hooks: BuildHooks;
  readonly #directory: string;
  readonly #ending = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #onAbort = () => this.#end(new FormationError("cancelled", "The build was cancelled."));
  readonly #tail: string[] = [];
  #endedBy: FormationError | null = null;
  #step = "pull";

  readonly #stepMs: number;

  constructor(request: BuildRequest, hooks: BuildHooks, directory: string, stepMs: number) {
    this.#stepMs = stepMs;
    this.#request = request;
    this.#hooks = hooks;
    this.#directory = directory;
    hooks.signal.addEventListener("abort", this.#onAbort, { once: true });
    if (hooks.signal.aborted) this.#onAbort();
    const seconds = Math.round(request.limits.timeout_ms / 1000);
    this.#timer = setTimeout(() => {
      this.#end(
        new FormationError("limit", `The build did not end within its ${seconds} s.`, {
          remedy: "Make the run lines faster, or move what serves requests from run to entrypoint.",
        }),
      );
    }, request.limits.timeout_ms);
  }

  get signal(): AbortSignal {
    return this.#ending.signal;
  }

  async step(step: string, message: string, fraction: number | null): Promise<void> {
    if (this.signal.aborted) throw new BuildAborted();
    this.#step = step;
    this.#hooks.onStep(step, message, fraction);
    if (this.#stepMs === 0) return;
    await delay(this.#stepMs, undefined, { signal: this.signal }).catch(() => {
      throw new BuildAborted();
    });
  }

  /** Runs one line in `work`. @throws FormationError `invalid` with the exit code if it fails. */
  async line(line: string, rootfs: string, work: string, env: Record<string, string>): Promise<void> {
    const watch = setInterval(() => {
      try {
        this.checkDisk(rootfs);
      } catch (error) {
        this.#end(error as FormationError);
      }
    }, 100);
    try {
      const { code } = await run("/bin/sh", ["-c", line], {
        cwd: work,
        env: { ...env, ...markOf(this.#directory) },
        signal: this.signal,
        timeoutMs: this.#request.limits.timeout_ms + 10_000,
        graceMs: 200,
        onLine: (stream, text) => {
          this.#tail.push(text.slice(0, LIMITS.logLineBytes));
          if (this.#tail.length > LIMITS.errorLogLines) this.#tail.shift();
          this.#hooks.onLine(stream, text);
        },
      });
      if (code === 0) return;
      throw new FormationError("invalid", `The step ${this.#step} failed with exit code ${code}.`, {
        exit_code: code,
        remedy: "Read the last lines of its log, correct the run line, and build again.",
      });
    } finally {
      clearInterval(watch);
      await FakeRun.endLeft(this.#directory);
    }
  }

  checkDisk(rootfs: string): void {
    const error = exceededDiskLimit(treeSize(rootfs), this.#request.limits);
    if (error) throw error;
  }

  explain(thrown: unknown): FormationError {
    const error = FormationError.from(this.#endedBy ?? thrown, "The build failed inside the node.");
    return new FormationError(error.code, error.message, {
      ...error.details,
      step: error.details.step ?? this.#step,
      ...(this.#tail.length > 0 ? { log_tail: [...this.#tail] } : {}),
      cause: error.cause,
    });
  }

  async close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#hooks.signal.removeEventListener("abort", this.#onAbort);
    await FakeRun.endLeft(this.#directory);
  }

  /** Kills every process that a build in this directory started, in whatever group it is. */
  static async endLeft(directory: string): Promise<void> {
    const mark = Object.entries(markOf(directory)).map(([key, value]) => `${key}=${value}`)[0] as string;
    await waitFor(
      () => {
        const left = readdirSync("/proc").filter((name) => /^\d+$/.test(name) && carries(name, mark));
        for (const pid of left) {
          try {
            process.kill(Number(pid), "SIGKILL");
          } catch {
            // The process has already ended.
          }
        }
        return left.length === 0;
      },
      { timeoutMs: 10_000, everyMs: 10, what: "the processes of a run line to end" },
    );
  }

  #end(error: FormationError): void {
    this.#endedBy ??= error;
    this.#ending.abort();
  }
}

/** The bytes of the plain files below a directory. */
export function treeBytes(path: string): number {
  return treeSize(path).bytes;
}

function treeSize(path: string): { bytes: number; files: number } {
  const size = { bytes: 0, files: 0 };
  walk(path, (_, found) => {
    size.files += 1;
    if (found.isFile()) size.bytes += Number(found.size);
  });
  return size;
}

/** A digest of the names, modes, link targets and contents below a directory. */
export function hashTree(path: string): string {
  const sum = createHash("sha256");
  walk(path, (file, found) => {
    sum.update(`${file.slice(path.length)}\0${found.mode}\0`);
    if (found.isSymbolicLink()) sum.update(readlinkSync(file));
    else if (found.isFile()) sum.update(createHash("sha256").update(readFileSync(file)).digest());
  });
  return sum.digest("hex");
}

function walk(
  path: string,
  visit: (file: string, found: ReturnType<typeof lstatSync> & object) => void,
): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (!found) return; // removed meanwhile
  visit(path, found);
  if (!found.isDirectory()) return;
  let names: string[] = [];
  try {
    names = readdirSync(path).sort();
  } catch {
    return;
  }
  for (const name of names) walk(join(path, name), visit);
}

function markOf(directory: string): Record<string, string> {
  return { FORMATION_FAKE_BUILD: directory };
}

function carries(pid: string, mark: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/environ`, "latin1").split("\0").includes(mark);
  } catch {
    return false;
  }
}
