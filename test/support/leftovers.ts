// What may be left of builds and machines on a node: processes, mounts, namespaces, rules, cgroups, files.

import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@formation-mcp/os";

export interface Leftovers {
  /** `pid command` of every process that works in the state directory, the worker itself excepted. */
  processes: string[];
  mounts: string[];
  networkNamespaces: string[];
  firewallRules: string[];
  cgroups: string[];
  scratch: string[];
  machines: string[];
}

const CGROUP_ROOTS = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"];

/** Everything that is there now and would have to go once nothing is built and nothing runs. */
export function leftovers(stateDir: string): Leftovers {
  return {
    processes: processesOf(stateDir),
    mounts: lines(readFileSync("/proc/self/mountinfo", "utf8")).filter((line) => line.includes(stateDir)),
    networkNamespaces: run("ip", ["netns", "list"]),
    firewallRules: [...run("iptables", ["-S"]), ...run("ip6tables", ["-S"])].filter(
      (rule) => !rule.startsWith("-P"),
    ),
    cgroups: CGROUP_ROOTS.flatMap((root) => formationGroups(root)),
    scratch: list(join(stateDir, "scratch")),
    machines: list(join(stateDir, "h", "machines")),
  };
}

/** Waits until nothing is left beyond what was there before; fails by telling what is. */
export async function expectNothingLeft(stateDir: string, before: Leftovers): Promise<void> {
  const extra = () => {
    const now = leftovers(stateDir);
    return (Object.keys(now) as (keyof Leftovers)[]).flatMap((kind) =>
      now[kind].filter((each) => !before[kind].includes(each)).map((each) => `${kind}: ${each}`),
    );
  };
  await waitFor(() => extra().length === 0, {
    timeoutMs: 15_000,
    everyMs: 200,
    what: "nothing to be left",
  }).catch(() => {
    throw new Error(`Left behind:\n  ${extra().join("\n  ")}`);
  });
}

function processesOf(stateDir: string): string[] {
  const worker = existsSync(join(stateDir, "worker.json"))
    ? String(JSON.parse(readFileSync(join(stateDir, "worker.json"), "utf8")).pid)
    : "";
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && name !== worker && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        const belongs = command.includes(stateDir) || readlinkSync(`/proc/${pid}/cwd`).startsWith(stateDir);
        const server = command.includes("formation-mcp.mjs --allow-dir");
        return belongs && !server ? [`${pid} ${command.slice(0, 200)}`] : [];
      } catch {
        return []; // it went while we looked
      }
    });
}

function formationGroups(root: string): string[] {
  const found: string[] = [];
  const visit = (directory: string, depth: number) => {
    for (const entry of list(directory)) {
      const path = join(directory, entry);
      if (/formation/.test(path) && /(dep_|bld_|vm_|op_)/.test(entry)) found.push(path);
      else if (depth < 3 && /formation/.test(entry)) visit(path, depth + 1);
    }
  };
  visit(root, 0);
  return found;
}

function run(file: string, args: string[]): string[] {
  try {
    return lines(execFileSync(file, args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }));
  } catch {
    return [];
  }
}

function list(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function lines(text: string): string[] {
  return text.split("\n").filter((line) => line !== "");
}
