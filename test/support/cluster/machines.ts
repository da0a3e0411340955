// What really is on the nodes of a cluster: processes that work in the directories of machines, by the name
// of their instance; whether two machines of one instance ever ran at a time; and what is left when nothing
// should be.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Cluster, Node } from "../../../examples/cluster/ground.ts";

interface MachineProcess {
  pid: number;
  node: string;
  machine: string;
  instance: string;
}

/** Machines' names say nothing about their instance, and their journals go before the last process may. */
const instances = new Map<string, string>();

export function machineProcesses({ nodes }: Cluster): MachineProcess[] {
  return workers(nodes).flatMap(({ pid, node, path }) => {
    const [where, below, machine] = path.split("/");
    if (where !== "h" || below !== "machines" || machine === undefined) return [];
    return [{ pid, node: node.name, machine, instance: instanceOf(node, machine) }];
  });
}

/** The machines that run, by instance. */
export function running(cluster: Cluster): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  for (const { instance, machine, node } of machineProcesses(cluster)) {
    const machines = found.get(instance) ?? new Set();
    machines.add(`${machine} on ${node}`);
    found.set(instance, machines);
  }
  return found;
}

export interface Watch {
  /** Two machines of one instance that ran at the same time, in words; each is told once. */
  readonly doubled: string[];
  /** How often it looked. */
  readonly looks: () => number;
  stop(): void;
}

/** Looks all the time whether more than one machine of an instance runs. */
export function watchMachines(cluster: Cluster, everyMs = 75): Watch {
  const doubled = new Map<string, string>();
  let looks = 0;
  const look = () => {
    looks++;
    // Almost never does an instance have two machines at all, and reading their names costs little.
    if (!cluster.nodes.some((node) => node.machines().some((machine) => isSecond(cluster, node, machine))))
      return;
    for (const [instance, machines] of running(cluster)) {
      const names = [...machines].join(", ");
      if (machines.size < 2 || doubled.has(names)) continue;
      // What was seen first may have ended before the other was seen: then they were never both there.
      const again = running(cluster).get(instance) ?? new Set();
      const both = [...machines].filter((each) => again.has(each));
      if (both.length > 1)
        doubled.set(names, `${new Date().toISOString()} ${instance} ran twice: ${both.join(", ")}`);
    }
  };
  const timer = setInterval(look, everyMs);
  return {
    get doubled() {
      return [...doubled.values()];
    },
    looks: () => looks,
    stop: () => clearInterval(timer),
  };
}

/** What is on the nodes that belongs to no image and no record: where nothing runs and is built, nothing. */
export function leftovers({ nodes }: Cluster): string[] {
  const directories = ["h/machines", "b/builds", "scratch"];
  return [
    ...workers(nodes).map(({ pid, node, path }) => `process ${pid} works in ${path} of ${node.name}`),
    ...nodes.flatMap((node) => [
      ...directories.flatMap((directory) =>
        listed(join(node.stateDir, directory)).map((name) => `${directory}/${name} on ${node.name}`),
      ),
      ...["b/disks", "b/images", "b/layers", "artifacts/tmp"].flatMap((directory) =>
        listed(join(node.stateDir, directory))
          .filter((name) => name.endsWith(".tmp"))
          .map((name) => `${directory}/${name} on ${node.name}`),
      ),
    ]),
  ];
}

/** Processes whose working directory lies in a node's state. */
function workers(nodes: readonly Node[]): { pid: number; node: Node; path: string }[] {
  return readdirSync("/proc").flatMap((pid) => {
    if (!/^\d+$/.test(pid)) return [];
    try {
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      const node = nodes.find(({ stateDir }) => cwd.startsWith(`${stateDir}/`));
      return node ? [{ pid: Number(pid), node, path: cwd.slice(node.stateDir.length + 1) }] : [];
    } catch {
      return []; // It went while we looked.
    }
  });
}

function instanceOf(node: Node, machine: string): string {
  const known = instances.get(machine);
  if (known !== undefined) return known;
  try {
    const journal = readFileSync(join(node.stateDir, "h", "machines", machine, "machine.json"), "utf8");
    const { hostname } = JSON.parse(journal) as { hostname?: string };
    if (hostname === undefined) return machine;
    instances.set(machine, hostname);
    return hostname;
  } catch {
    return machine;
  }
}

/** Whether another machine of the same instance has a directory too. */
function isSecond({ nodes }: Cluster, node: Node, machine: string): boolean {
  const instance = instanceOf(node, machine);
  return nodes.some((other) =>
    other
      .machines()
      .some((name) => (name !== machine || other !== node) && instanceOf(other, name) === instance),
  );
}

function listed(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
