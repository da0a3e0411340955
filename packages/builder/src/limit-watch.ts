// Watches a running build for the limits that no kernel limit enforces: bytes and files added to the disk,
// the host's free space, and staying at the limit of processes.

import { readdirSync, readFileSync, statfsSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { BuildCgroup, CgroupSample } from "./build-cgroup.ts";
import type { ImageStore } from "./image-store.ts";
import type { BuildLimits } from "./port.ts";

const SAMPLE_EVERY_MS = 200;
/** For how many samples in a row a build may be at its limit of processes before it is ended. */
const MAX_SAMPLES_AT_PIDS_LIMIT = 25;
const REMEASURE_BYTES = 128 * 1024 * 1024;
/**
 * As many files as a disk of that size has inodes for (mke2fs(8), inode_ratio), but at least enough for a
 * small build.
 */
const BYTES_PER_FILE = 16_384;
const MIN_FILE_LIMIT = 10_000;

/** Samples one running build, and ends it if it exceeds a limit. */
export class LimitWatch {
  readonly #store: ImageStore;
  /** Where runc keeps the state of this build's containers. */
  readonly #runcRoot: string;
  readonly #cgroup: BuildCgroup | null;
  readonly #limits: BuildLimits;
  readonly #end: (error: FormationError) => void;
  readonly #sizes = new Map<string, { bytes: number; files: number }>();
  #sample: CgroupSample = { oomKills: 0, memoryHits: 0, forksRefused: 0, processes: 0, mostProcesses: 0 };
  #crowded = 0;
  #timer: NodeJS.Timeout | null = null;
  #measuring = false;
  #freeAtMeasure = 0;
  #nextMeasure = 0;
  #stopped = false;

  constructor(
    store: ImageStore,
    runcRoot: string,
    cgroup: BuildCgroup | null,
    limits: BuildLimits,
    end: (error: FormationError) => void,
  ) {
    this.#store = store;
    this.#runcRoot = runcRoot;
    this.#cgroup = cgroup;
    this.#limits = limits;
    this.#end = end;
  }

  start(): void {
    this.#freeAtMeasure = freeBytes(this.#store.settings.stateDir);
    this.#timer = setInterval(() => this.#check(), SAMPLE_EVERY_MS);
  }

  stop(): CgroupSample {
    if (this.#timer) clearInterval(this.#timer);
    this.#stopped = true;
    if (this.#cgroup) this.#keepHighest(this.#cgroup.sample());
    return this.#sample;
  }

  #check(): void {
    if (this.#cgroup) {
      this.#keepHighest(this.#cgroup.sample());
      this.#crowded = this.#sample.processes >= this.#limits.pids ? this.#crowded + 1 : 0;
      if (this.#crowded >= MAX_SAMPLES_AT_PIDS_LIMIT) this.#end(tooManyProcesses(this.#limits));
    }
    const free = freeBytes(this.#store.settings.stateDir);
    if (isNearlyFull(this.#store.settings)) {
      this.#end(
        new FormationError(
          "limit",
          "The node's disk is nearly full; the build was ended to leave it some space.",
          {
            remedy: "Write less in the run lines, or have the operator free or add disk space.",
          },
        ),
      );
    }
    const fell = this.#freeAtMeasure - free;
    const soon = Math.min(REMEASURE_BYTES, this.#limits.disk_bytes / 4);
    if (this.#measuring || (fell < soon && performance.now() < this.#nextMeasure)) return;
    this.#freeAtMeasure = free;
    this.#measuring = true;
    void this.#measure().finally(() => {
      this.#measuring = false;
    });
  }

  /** A container's counters disappear with it, so the highest values are kept. */
  #keepHighest(sample: CgroupSample): void {
    this.#sample = {
      oomKills: Math.max(this.#sample.oomKills, sample.oomKills),
      memoryHits: Math.max(this.#sample.memoryHits, sample.memoryHits),
      forksRefused: Math.max(this.#sample.forksRefused, sample.forksRefused),
      processes: sample.processes,
      mostProcesses: Math.max(this.#sample.mostProcesses, sample.mostProcesses, sample.processes),
    };
  }

  async #measure(): Promise<void> {
    const began = performance.now();
    for (const directory of this.#upperDirectories()) {
      const result = await this.#store
        .script(
          'for what in --block-size=1 --inodes; do du -sx "$what" -- "$1" 2>/dev/null || :; done',
          [directory],
          { timeoutMs: 60_000 },
        )
        .catch(() => null);
      const [bytes = 0, files = 0] = (result?.stdout ?? "")
        .split("\n")
        .map((line) => Number.parseInt(line, 10));
      if (bytes > 0 && files > 0) this.#sizes.set(directory, { bytes, files });
    }
    // Counting many files takes time, so measuring takes at most a tenth of the time.
    this.#nextMeasure = performance.now() + Math.max(1000, 10 * (performance.now() - began));
    const total = { bytes: 0, files: 0 };
    for (const { bytes, files } of this.#sizes.values()) {
      total.bytes += bytes;
      total.files += files;
    }
    const error = exceededDiskLimit(total, this.#limits);
    if (error && !this.#stopped) this.#end(error);
  }

  /** The upper directories (overlayfs) that the build's running containers write to. */
  #upperDirectories(): string[] {
    let containers: string[];
    try {
      containers = readdirSync(this.#runcRoot);
    } catch {
      return [];
    }
    return containers.flatMap((container) => {
      try {
        const state = JSON.parse(readFileSync(join(this.#runcRoot, container, "state.json"), "utf8")) as {
          init_process_pid?: number;
        };
        const mounts = readFileSync(`/proc/${state.init_process_pid}/mountinfo`, "utf8").split("\n");
        const root = mounts.find(
          (line) => / - (overlay|fuse\.fuse-overlayfs) /.test(line) && line.split(" ")[4] === "/",
        );
        const upper = /[ ,]upperdir=([^, ]+)/.exec(root ?? "")?.[1];
        return upper?.startsWith(this.#store.settings.places.root) ? [upper] : [];
      } catch {
        return []; // it has ended
      }
    });
  }
}

/** Whether the node must stop building: less than its reserve is free, or less than 2 % of its inodes. */
export function isNearlyFull({
  stateDir,
  reserveBytes,
}: {
  stateDir: string;
  reserveBytes: number;
}): boolean {
  const { bavail, bsize, files, ffree } = statfsSync(stateDir);
  // A file system that allocates inodes dynamically (btrfs) reports 0 for both.
  return bavail * bsize < reserveBytes || (files > 0 && ffree < files / 50);
}

/** The error for a build that has added this much, or null if it may go on. */
export function exceededDiskLimit(
  added: { bytes: number; files: number },
  limits: BuildLimits,
): FormationError | null {
  if (added.bytes > limits.disk_bytes) return tooMuchDisk(limits);
  return added.files > maxFiles(limits) ? tooManyFiles(limits) : null;
}

function maxFiles(limits: BuildLimits): number {
  return Math.max(MIN_FILE_LIMIT, Math.floor(limits.disk_bytes / BYTES_PER_FILE));
}

/** Free bytes for users other than root. */
export function freeBytes(path: string): number {
  const stats = statfsSync(path);
  return stats.bavail * stats.bsize;
}

export function tooMuchDisk(limits: BuildLimits): FormationError {
  const size =
    limits.disk_bytes >= 1024 ** 2
      ? `${Math.round(limits.disk_bytes / 1024 ** 2)} MiB`
      : `${limits.disk_bytes} bytes`;
  return new FormationError("limit", `The build wrote more than the ${size} that it may add to its disk.`, {
    remedy: "Write less: remove what a run line downloads or caches in the same line, or use a smaller base.",
  });
}

function tooManyFiles(limits: BuildLimits): FormationError {
  return new FormationError(
    "limit",
    `The build made more than the ${maxFiles(limits)} files that it may add.`,
    {
      remedy: "Make fewer files: remove what a run line unpacks or caches in the same line.",
    },
  );
}

export function tooManyProcesses(limits: BuildLimits): FormationError {
  return new FormationError("limit", `The build reached its pids limit of ${limits.pids} processes.`, {
    remedy: "Start fewer processes at a time in the run lines, for example make -j2.",
  });
}

export function tooMuchMemory(limits: BuildLimits): FormationError {
  return new FormationError(
    "limit",
    `The build went beyond its memory limit of ${limits.memory_mb} MiB and was killed.`,
    {
      remedy: "Use less memory in the run line, for example with fewer parallel jobs, or split it.",
    },
  );
}
