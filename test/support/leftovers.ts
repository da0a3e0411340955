// Leftovers of builds and machines on a node: processes (a network namespace exists as long as its process),
// mounts, firewall rules, cgroups, files.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync } from "node:fs";
import { join } from "node:path";
import { waitFor } from "@formation-mcp/os";

export interface Leftovers {
  /** `pid command` of every process that uses the state directory, except its worker and servers. */
  processes: string[];
  mounts: string[];
  firewallRules: string[];
  cgroups: string[];
  scratch: string[];
  machines: string[];
}

const CGROUP_ROOTS = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/cpu"];

/** Everything that must be removed once nothing is built and nothing runs. */
export function leftovers(stateDir: string): Leftovers {
  const marks = marksOf(stateDir);
  const rules = [...run("iptables", ["-S"]), ...run("ip6tables", ["-S"])];
  return {
    processes: processesOf(stateDir, marks.builder),
    mounts: lines(readFileSync("/proc/self/mountinfo", "utf8")).filter((line) => line.includes(stateDir)),
    firewallRules: rules.filter((rule) => rule.includes(marks.hypervisor)),
    cgroups: CGROUP_ROOTS.flatMap((root) => [
      ...groupsBelow(root, [`formation-${marks.hypervisor}`]),
      ...groupsBelow(join(root, "formation"), [marks.builder]),
    ]),
    scratch: list(join(stateDir, "scratch")),
    machines: list(join(stateDir, "h", "machines")),
  };
}

/**
 * The mark of the engines on everything outside the state directory, so that two state directories never mix.
 */
function marksOf(stateDir: string): { builder: string; hypervisor: string } {
  const hash = (path: string) => createHash("sha256").update(path).digest("hex");
  const real = realpathSync(stateDir);
  return { builder: hash(join(stateDir, "b")).slice(0, 10), hypervisor: hash(join(real, "h")).slice(0, 8) };
}

/** Waits until nothing is left that was not there before; otherwise fails with a list. */
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

function processesOf(stateDir: string, mark: string): string[] {
  const worker = existsSync(join(stateDir, "worker.json"))
    ? String(JSON.parse(readFileSync(join(stateDir, "worker.json"), "utf8")).pid)
    : "";
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && name !== worker && name !== String(process.pid))
    .flatMap((pid) => {
      try {
        const command = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
        const belongs =
          command.includes(stateDir) ||
          readlinkSync(`/proc/${pid}/cwd`).startsWith(stateDir) ||
          readFileSync(`/proc/${pid}/environ`, "latin1").includes(`FORMATION_STATE=${mark}`);
        const server = command.includes("formation-mcp.mjs --allow-dir");
        return belongs && !server ? [`${pid} ${command.slice(0, 200)}`] : [];
      } catch {
        return []; // it went while we looked
      }
    });
}

/** Cgroups of builds and machines: the marked group itself may stay, it is empty. */
function groupsBelow(directory: string, marks: string[]): string[] {
  return list(directory)
    .filter((name) => marks.some((mark) => name.includes(mark)))
    .flatMap((name) =>
      list(join(directory, name))
        .filter((each) => /^(dep_|bld_)/.test(each))
        .map((each) => `${name}/${each}`),
    );
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
