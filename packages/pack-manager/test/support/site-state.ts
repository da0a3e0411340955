// The real state of a site: its processes, directories and files, and its machines as the hypervisor finds
// them.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { MachineStatus } from "@formation-mcp/hypervisor";
import { type Drivers, openBuilder, openHypervisor, type Site } from "./site.ts";

/** The machines of a site. Call it while no worker runs. */
export async function machinesOf(site: Site, drivers: Drivers): Promise<MachineStatus[]> {
  const hypervisor = await openHypervisor(site, drivers);
  try {
    await hypervisor.recover();
    return await hypervisor.list();
  } finally {
    await hypervisor.close();
  }
}

/** Removes what a failed round has left, by the drivers. */
export async function clearSite(site: Site, drivers: Drivers): Promise<void> {
  await (await openBuilder(site, drivers)).recover();
  const hypervisor = await openHypervisor(site, drivers);
  await hypervisor.recover();
  for (const { id } of await hypervisor.list()) await hypervisor.remove(id);
  await hypervisor.close();
}

/** `pid command` of every process that belongs to a site by its command, environment or directory. */
export function processesOf(site: Site): string[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").trim();
        const environment = readFileSync(`/proc/${pid}/environ`, "latin1");
        const directory = readlinkSync(`/proc/${pid}/cwd`);
        const belongs = [command, environment, directory].some((text) => text.includes(site.root));
        return belongs && command !== "" ? [`${pid} ${command.slice(0, 160)}`] : [];
      } catch {
        return []; // it has ended meanwhile, or belongs to another user
      }
    });
}

/** The machines that have a process now. Processes that make disks or guard leashes do not count. */
export function machinesRunning(site: Site, drivers: Drivers): string[] {
  const machines = join(site.hypervisor, "machines");
  const found = new Set<string>();
  for (const pid of list("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      const directory = readlinkSync(`/proc/${pid}/cwd`);
      if (!directory.startsWith(`${machines}/`)) continue;
      if (drivers === "fake" || readFileSync(`/proc/${pid}/comm`, "latin1").startsWith("qemu-system"))
        found.add(directory.slice(machines.length + 1).split("/")[0] ?? "");
    } catch {
      // It has ended meanwhile, or belongs to another user.
    }
  }
  return [...found];
}

/** Files and directories that exist only while something is being made. */
export function temporaryPaths(site: Site): string[] {
  const of = (directory: string) => list(directory).map((name) => join(directory, name));
  const temporary = walk(site.root).filter((path) => path.endsWith(".tmp") || path.includes(".partial"));
  return [...of(site.scratch), ...of(join(site.builder, "builds")), ...temporary];
}

function walk(directory: string, depth = 4): string[] {
  return list(directory).flatMap((name) => {
    const path = join(directory, name);
    return depth === 0 || name === "images" || name === "layers" ? [path] : [path, ...walk(path, depth - 1)];
  });
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
