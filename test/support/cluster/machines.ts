// What really runs on the nodes of a cluster: the processes in the directories of machines, by instance name;
// whether two machines of one instance ever ran at the same time; and leftovers.

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import type { Cluster, Node } from "../../../examples/cluster/ground.ts";

interface MachineProcess {
  pid: number;
  node: string;
  machine: string;
  instance: string;
}

/**
 * The name of a machine does not contain its instance, and its journal may be removed before its last process
 * ends.
 */
const instances = new Map<string, string>();

export function machineProcesses({ nodes }: Cluster): MachineProcess[] {
  return workers(nodes).flatMap(({ pid, node, path }) => {
    const [where, below, machine] = path.split("/");
    if (where !== "h" || below !== "machines" || machine === undefined) return [];
    return [{ pid, node: node.name, machine, instance: instanceOf(node, machine) }];
  });
}

/** The running machines, by instance. */
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
  /** Two machines of one instance that ran at the same time, in words; each pair is reported once. */
  readonly doubled: string[];
  /** How often it checked. */
  readonly looks: () => number;
  stop(): void;
}

/** Checks continuously whether more than one machine of an instance runs. */
export function watchMachines(cluster: Cluster, everyMs = 75): Watch {
  const doubled = new Map<string, string>();
  let looks = 0;
  const look = () => {
    looks++;
    // An instance rarely has two machines, and reading only the names is cheap.
    if (!cluster.nodes.some((node) => node.machines().some((machine) => isSecond(cluster, node, machine))))
      return;
    for (const [instance, machines] of running(cluster)) {
      const names = [...machines].join(", ");
      if (machines.size < 2 || doubled.has(names)) continue;
      // The first machine may have ended before the second was seen: then they did not run at the same time.
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

/**
 * What is on the nodes and belongs to no image and no record. It is empty if nothing runs and nothing is
 * built.
 */
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

/** Processes whose working directory is below a node's state directory. */
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
