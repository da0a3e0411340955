// Limits on what a machine's process may use of the host: one cgroup for each machine below one of the
// worker's, in version 1 or 2. Needs root. See admin-guide/cgroup-v1 and cgroup-v2 in the kernel's
// documentation.

import {
  accessSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import type { Logger } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";

/** What QEMU needs beside the guest's memory: translated code, its heap, the page cache of the disk. */
const QEMU_OVERHEAD_MB = 320;
const CPU_PERIOD_US = 100_000;
/** Beside one for each of the guest's processors. */
const MAX_QEMU_THREADS = 128;

export interface Cgroups {
  /** Null where there are no cgroups that the worker may use. */
  version: 1 | 2 | null;
  /** What cannot be limited by cgroups on this host, as far as it shows before one is made. */
  lacking(): string[];
  /**
   * Makes the groups of a machine. `files` are their `cgroup.procs`; `missing` says in words which limits
   * cannot be put on the machine, and why.
   */
  make(id: string, limits: Limits): { files: string[]; missing: string[] };
  /** Removes the groups of a machine whose processes are gone. Idempotent. */
  remove(id: string): Promise<void>;
  /** Removes the groups of all other machines. */
  keepOnly(ids: readonly string[]): Promise<void>;
}

interface Limits {
  memory_mb: number;
  vcpus: number;
}

/** In version 1 each controller has a hierarchy; in version 2 there is one for all of them. */
interface Hierarchy {
  /** What it limits, in words. */
  what: string;
  /** The worker's group, the parent of its machines'. */
  parent: string;
  /** The files of a machine's group, and what to write to each. */
  settings(limits: Limits): [file: string, value: string][];
}

/** @param name The worker's group, unique to it on the host. */
export function createCgroups(
  name: string,
  enabled: boolean,
  logger: Logger,
  root = "/sys/fs/cgroup",
): Cgroups {
  const hierarchies = enabled ? findHierarchies(root, name) : [];
  const version = hierarchies.length === 0 ? null : existsSync(join(root, "cgroup.controllers")) ? 2 : 1;
  const remove = async (id: string) => {
    for (const { parent } of hierarchies) await removeGroup(join(parent, id));
    for (const { parent } of hierarchies) tryRemove(parent); // Succeeds once no machine is left.
  };
  return {
    version,
    lacking: () =>
      version === null
        ? ["memory", "processor", "process"]
        : hierarchies.flatMap(({ what, parent }) => (isWritable(dirname(parent), version) ? [] : [what])),
    make(id, limits) {
      const files: string[] = [];
      const missing =
        enabled && hierarchies.length === 0 ? ["memory, processor and process limits: no cgroups"] : [];
      for (const { what, parent, settings } of hierarchies) {
        const group = join(parent, id);
        try {
          mkdirSync(parent, { recursive: true });
          if (version === 2) delegateControllers(root, parent);
          mkdirSync(group, { recursive: true });
          for (const [file, value] of settings(limits)) writeFileSync(join(group, file), value);
          files.push(join(group, "cgroup.procs"));
        } catch (error) {
          tryRemove(group);
          missing.push(`${what} limit: its cgroup cannot be made`);
          logger.log("warn", "A machine runs without a limit.", { machine: id, what, error: String(error) });
        }
      }
      return { files, missing };
    },
    remove,
    async keepOnly(ids) {
      const kept = new Set(ids);
      for (const { parent } of hierarchies) {
        if (!existsSync(parent)) continue;
        for (const entry of readdirSync(parent, { withFileTypes: true })) {
          if (entry.isDirectory() && !kept.has(entry.name)) await remove(entry.name);
        }
      }
    },
  };
}

function findHierarchies(root: string, name: string): Hierarchy[] {
  const memory = (mb: number) => String((mb + QEMU_OVERHEAD_MB) * 1024 * 1024);
  // Half a processor beside the guest's own, for QEMU's disk and network.
  const quota = (vcpus: number) => Math.round((vcpus + 0.5) * CPU_PERIOD_US);
  const threads = (vcpus: number) => String(MAX_QEMU_THREADS + vcpus);
  if (existsSync(join(root, "cgroup.controllers"))) {
    const settings = (limits: Limits): [string, string][] => [
      ["memory.max", memory(limits.memory_mb)],
      ["cpu.max", `${quota(limits.vcpus)} ${CPU_PERIOD_US}`],
      ["pids.max", threads(limits.vcpus)],
    ];
    return [{ what: "memory, processor and process", parent: join(root, name), settings }];
  }
  const version1: [string, Hierarchy["settings"]][] = [
    ["memory", (limits) => [["memory.limit_in_bytes", memory(limits.memory_mb)]]],
    [
      "cpu",
      (limits) => [
        ["cpu.cfs_period_us", String(CPU_PERIOD_US)],
        ["cpu.cfs_quota_us", String(quota(limits.vcpus))],
      ],
    ],
    ["pids", (limits) => [["pids.max", threads(limits.vcpus)]]],
  ];
  return version1
    .filter(([controller]) => existsSync(join(root, controller, "cgroup.procs")))
    .map(([controller, settings]) => ({
      what: controller === "cpu" ? "processor" : controller === "pids" ? "process" : controller,
      parent: join(root, controller, name),
      settings,
    }));
}

/**
 * Whether limited groups can be made in it. A version 2 group that has processes cannot delegate controllers.
 */
function isWritable(directory: string, version: 1 | 2): boolean {
  try {
    accessSync(directory, constants.W_OK);
    if (version === 1 || !existsSync(join(directory, "cgroup.type"))) return true;
    const delegated = readFileSync(join(directory, "cgroup.subtree_control"), "utf8").split(/\s/);
    return ["memory", "cpu", "pids"].every((controller) => delegated.includes(controller));
  } catch {
    return false;
  }
}

function delegateControllers(root: string, parent: string): void {
  for (const group of [root, parent])
    writeFileSync(join(group, "cgroup.subtree_control"), "+memory +cpu +pids");
}

async function removeGroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  // The kernel keeps a group busy for a moment after its last process ended.
  await waitFor(() => tryRemove(path), {
    timeoutMs: 5000,
    everyMs: 20,
    what: `the cgroup ${path} to be empty`,
  });
}

function tryRemove(path: string): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ENOENT";
  }
}
