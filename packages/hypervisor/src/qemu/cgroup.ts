// How much of the host a machine may use beyond what its own size says: cgroups, version 1 or 2, one group per machine
// under one of ours. Needs root. See the kernel's admin-guide/cgroup-v1 and cgroup-v2.

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

/** What QEMU needs itself beside the guest's memory, in MB: translated code, its own heap, pages of the disk. */
const OVERHEAD_MB = 320;
const PERIOD_US = 100_000;
/** QEMU's own threads beside the guest's processors, at most. */
const THREADS = 128;

export interface Cgroups {
  /** 1 or 2, or null where there are none that we may use. */
  version: 1 | 2 | null;
  /** What this host can't limit by them, as it looks before one is made. */
  lacking(): string[];
  /** Makes the groups; `files` take the process's pid, `missing` says which limits can't be put on it here, and why. */
  make(id: string, limits: { memory_mb: number; vcpus: number }): { files: string[]; missing: string[] };
  /** Removes the groups; the processes in them must be gone. Idempotent. */
  remove(id: string): Promise<void>;
  /** Removes the groups of all other machines. */
  keepOnly(ids: readonly string[]): Promise<void>;
}

interface Hierarchy {
  /** What it limits. */
  what: string;
  /** Our own group, the parent of the machines'. */
  ours: string;
  settings(limits: { memory_mb: number; vcpus: number }): [string, string][];
}

/** @param name of our own group, unlike that of every other worker on the host. */
export function openCgroups(
  name: string,
  enabled: boolean,
  logger: Logger,
  root = "/sys/fs/cgroup",
): Cgroups {
  const hierarchies = enabled ? findHierarchies(root, name) : [];
  const version = hierarchies.length === 0 ? null : existsSync(join(root, "cgroup.controllers")) ? 2 : 1;
  const remove = async (id: string) => {
    for (const { ours } of hierarchies) await removeGroup(join(ours, id));
    for (const { ours } of hierarchies) tryRemove(ours); // goes with the last machine
  };
  return {
    version,
    lacking: () =>
      version === null
        ? ["memory", "processor", "process"]
        : hierarchies.flatMap(({ what, ours }) => (isWritable(dirname(ours), version) ? [] : [what])),
    make(id, limits) {
      const files: string[] = [];
      const missing =
        enabled && hierarchies.length === 0 ? ["memory, processor and process limits: no cgroups"] : [];
      for (const { what, ours, settings } of hierarchies) {
        const group = join(ours, id);
        try {
          mkdirSync(ours, { recursive: true });
          if (version === 2) delegate(root, ours);
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
      for (const { ours } of hierarchies) {
        if (!existsSync(ours)) continue;
        for (const entry of readdirSync(ours, { withFileTypes: true })) {
          if (entry.isDirectory() && !kept.has(entry.name)) await remove(entry.name);
        }
      }
    },
  };
}

function findHierarchies(root: string, name: string): Hierarchy[] {
  const memory = (mb: number) => String((mb + OVERHEAD_MB) * 1024 * 1024);
  // Half a processor for the disk, the network and the display of a machine that computes.
  const quota = (vcpus: number) => Math.round((vcpus + 0.5) * PERIOD_US);
  const threads = (vcpus: number) => String(THREADS + vcpus);
  if (existsSync(join(root, "cgroup.controllers"))) {
    const settings = (limits: { memory_mb: number; vcpus: number }): [string, string][] => [
      ["memory.max", memory(limits.memory_mb)],
      ["cpu.max", `${quota(limits.vcpus)} ${PERIOD_US}`],
      ["pids.max", threads(limits.vcpus)],
    ];
    return [{ what: "memory, processor and process", ours: join(root, name), settings }];
  }
  const version1: [string, Hierarchy["settings"]][] = [
    ["memory", (limits) => [["memory.limit_in_bytes", memory(limits.memory_mb)]]],
    [
      "cpu",
      (limits) => [
        ["cpu.cfs_period_us", String(PERIOD_US)],
        ["cpu.cfs_quota_us", String(quota(limits.vcpus))],
      ],
    ],
    ["pids", (limits) => [["pids.max", threads(limits.vcpus)]]],
  ];
  return version1
    .filter(([controller]) => existsSync(join(root, controller, "cgroup.procs")))
    .map(([controller, settings]) => ({
      what: controller === "cpu" ? "processor" : controller === "pids" ? "process" : controller,
      ours: join(root, controller, name),
      settings,
    }));
}

/** Whether groups can be made there. In a version 2 group with processes of its own, controllers can't be handed on. */
function isWritable(parent: string, version: 1 | 2): boolean {
  try {
    accessSync(parent, constants.W_OK);
    if (version === 1 || !existsSync(join(parent, "cgroup.type"))) return true;
    const handedOn = readFileSync(join(parent, "cgroup.subtree_control"), "utf8").split(/\s/);
    return ["memory", "cpu", "pids"].every((controller) => handedOn.includes(controller));
  } catch {
    return false;
  }
}

function delegate(root: string, ours: string): void {
  for (const group of [root, ours])
    writeFileSync(join(group, "cgroup.subtree_control"), "+memory +cpu +pids");
}

async function removeGroup(path: string): Promise<void> {
  if (!existsSync(path)) return;
  // A group stays busy for a moment after its last process is gone.
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
