// Limits a build's memory, CPU and processes, on cgroup v1 and v2 (Documentation/admin-guide/cgroup-v1,
// cgroup-v2.rst). Each build has a cgroup of ours and runc puts its containers below it, so the limits hold
// whatever runc does.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { FormationError } from "@formation-mcp/contract";
import type { BuildLimits } from "./port.ts";

/** The counters of a build's cgroup so far. */
export interface CgroupSample {
  oomKills: number;
  /** How often memory was at its limit. On v1 the page cache counts too. */
  memoryHits: number;
  /** How many forks were refused. */
  forksRefused: number;
  processes: number;
  /** The highest number of processes; 0 if the kernel does not count it (before 6.1). */
  mostProcesses: number;
}

const TOP_CGROUP = "formation";
const PERIOD_US = 100_000;
const V2_CONTROLLERS = ["cpu", "memory", "pids"];

export class BuildCgroup {
  readonly path: string;
  readonly #root: string;
  readonly #limits: BuildLimits;

  constructor(root: string, mark: string, id: string, limits: BuildLimits) {
    this.path = `/${TOP_CGROUP}/${mark}/${id}`;
    this.#root = root;
    this.#limits = limits;
  }

  /**
   * The value for `--cgroup-parent`: absolute in each hierarchy, and below our cgroup, because runc removes
   * it after each line.
   */
  get forContainers(): string {
    return `${this.path}/run`;
  }

  /** @throws FormationError `unavailable` if the limits cannot be set; then nothing may run. */
  create(): void {
    try {
      if (isV2(this.#root)) this.#createV2();
      else this.#createV1();
    } catch (cause) {
      throw new FormationError("unavailable", "The limits of a build cannot be set on this node.", {
        cause,
        remedy: "Run `formation-mcp doctor`: the memory, cpu and pids cgroup controllers must be writable.",
      });
    }
  }

  sample(): CgroupSample {
    const all = [this.path, ...this.#children()];
    const sum = (controller: string, file: string, key?: string) =>
      all.reduce((total, path) => total + this.#read(controller, path, file, key), 0);
    const v2 = isV2(this.#root);
    return {
      oomKills: v2
        ? this.#read("memory", this.path, "memory.events", "oom_kill")
        : sum("memory", "memory.oom_control", "oom_kill"),
      memoryHits: v2 ? this.#read("memory", this.path, "memory.events", "max") : this.#memoryHitsV1(),
      forksRefused: sum("pids", "pids.events", "max"),
      processes: this.#read("pids", this.path, "pids.current"),
      mostProcesses: this.#read("pids", this.path, "pids.peak"),
    };
  }

  /** Kills every process in the cgroup and removes it. */
  async remove(): Promise<void> {
    for (let tries = 0; tries < 100; tries++) {
      const pids = this.#pids();
      for (const pid of pids) {
        try {
          process.kill(pid, "SIGKILL");
        } catch {
          // The process has already ended.
        }
      }
      if (hierarchies(this.#root).every((hierarchy) => removeTree(join(hierarchy, this.path)))) break;
      await delay(20);
    }
    removeEmptyParents(this.#root, this.path);
  }

  /** Not every kernel counts failures in this file, but all keep the highest usage. */
  #memoryHitsV1(): number {
    const full = (kind: string) =>
      this.#read("memory", this.path, `${kind}.max_usage_in_bytes`) >=
      this.#read("memory", this.path, `${kind}.limit_in_bytes`);
    const counted = this.#read("memory", this.path, "memory.failcnt");
    return Math.max(counted, this.#limits.memory_mb > 0 && full("memory") ? 1 : 0);
  }

  #createV1(): void {
    const { memory_mb, vcpus, pids } = this.#limits;
    for (const hierarchy of hierarchies(this.#root)) makeDirectory(join(hierarchy, this.path));
    const bytes = memory_mb * 1024 * 1024;
    this.#write("memory", "memory.limit_in_bytes", bytes);
    if (existsSync(join(this.#root, "memory", this.path, "memory.memsw.limit_in_bytes"))) {
      this.#write("memory", "memory.memsw.limit_in_bytes", bytes);
    }
    this.#write("cpu", "cpu.cfs_period_us", PERIOD_US);
    this.#write("cpu", "cpu.cfs_quota_us", vcpus * PERIOD_US);
    this.#write("pids", "pids.max", pids);
  }

  #createV2(): void {
    const { memory_mb, vcpus, pids } = this.#limits;
    makeDirectory(join(this.#root, this.path));
    const parts = this.path.split("/").filter((part) => part !== "");
    for (let depth = 0; depth <= parts.length; depth++) {
      const control = join(this.#root, ...parts.slice(0, depth), "cgroup.subtree_control");
      writeFileSync(control, V2_CONTROLLERS.map((one) => `+${one}`).join(" "));
    }
    this.#write("memory", "memory.max", memory_mb * 1024 * 1024);
    if (existsSync(join(this.#root, this.path, "memory.swap.max")))
      this.#write("memory", "memory.swap.max", 0);
    this.#write("cpu", "cpu.max", `${vcpus * PERIOD_US} ${PERIOD_US}`);
    this.#write("pids", "pids.max", pids);
  }

  #directory(controller: string, path: string): string {
    return isV2(this.#root) ? join(this.#root, path) : join(this.#root, controller, path);
  }

  #write(controller: string, file: string, value: number | string): void {
    writeFileSync(join(this.#directory(controller, this.path), file), String(value));
  }

  #read(controller: string, path: string, file: string, key?: string): number {
    try {
      const text = readFileSync(join(this.#directory(controller, path), file), "utf8");
      if (key === undefined) return Number.parseInt(text, 10) || 0;
      const line = text.split("\n").find((one) => one.startsWith(`${key} `));
      return line ? Number.parseInt(line.slice(key.length + 1), 10) : 0;
    } catch {
      return 0; // the container has ended
    }
  }

  #children(): string[] {
    return directoriesIn(this.#directory("pids", this.path)).map((name) => `${this.path}/${name}`);
  }

  #pids(): number[] {
    return hierarchies(this.#root).flatMap((hierarchy) => pidsBelow(join(hierarchy, this.path)));
  }
}

/**
 * Kills the processes of, and removes, the cgroups that an earlier process made for the same state directory.
 */
export async function removeLeftCgroups(root: string, mark: string): Promise<void> {
  const ids = new Set(hierarchies(root).flatMap((one) => directoriesIn(join(one, TOP_CGROUP, mark))));
  const none = { memory_mb: 0, vcpus: 0, pids: 0, disk_bytes: 0, timeout_ms: 0 };
  for (const id of ids) await new BuildCgroup(root, mark, id, none).remove();
  removeEmptyParents(root, `/${TOP_CGROUP}/${mark}/none`);
}

/** The cgroup version, and which of the three controllers can be used. */
export function describeCgroups(root: string): { version: "v1" | "v2"; controllers: string[] } {
  const v2 = isV2(root);
  const present = v2
    ? readFileSync(join(root, "cgroup.controllers"), "utf8").trim().split(" ")
    : directoriesIn(root);
  return { version: v2 ? "v2" : "v1", controllers: V2_CONTROLLERS.filter((one) => present.includes(one)) };
}

function isV2(root: string): boolean {
  return existsSync(join(root, "cgroup.controllers"));
}

function hierarchies(root: string): string[] {
  if (isV2(root)) return [root];
  return directoriesIn(root).map((name) => join(root, name));
}

function makeDirectory(path: string): void {
  // Another process may remove an empty parent at the same time.
  for (let tries = 0; ; tries++) {
    try {
      mkdirSync(path, { recursive: true });
      return;
    } catch (error) {
      if (tries > 10) throw error;
    }
  }
}

function pidsBelow(path: string): number[] {
  const own = (() => {
    try {
      return readFileSync(join(path, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number);
    } catch {
      return [];
    }
  })();
  return [...own, ...directoriesIn(path).flatMap((name) => pidsBelow(join(path, name)))];
}

function removeTree(path: string): boolean {
  for (const name of directoriesIn(path)) removeTree(join(path, name));
  return removeDirectory(path);
}

function removeEmptyParents(root: string, path: string): void {
  const parents = path.split("/").filter((part) => part !== "");
  for (const hierarchy of hierarchies(root)) {
    for (let depth = parents.length - 1; depth > 0; depth--) {
      removeDirectory(join(hierarchy, ...parents.slice(0, depth)));
    }
  }
}

function removeDirectory(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}

function directoriesIn(path: string): string[] {
  try {
    return readdirSync(path, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map((entry) => entry.name);
  } catch {
    return [];
  }
}
