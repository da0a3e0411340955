// Reports which programs and kernel features this machine has and lacks, how to install them, and which
// promises hold.

import { type RunResult, run } from "@formation-mcp/os";
import { describeCgroups } from "./build-cgroup.ts";
import { canMakeNetwork } from "./build-network.ts";
import type { ImageStore } from "./image-store.ts";
import type { BuilderReport } from "./port.ts";

interface RequiredProgram {
  program: string;
  debian: string;
  why: string;
  args?: string[];
}

/**
 * Probes the machine; changes nothing.
 * @returns what is missing and how to install it, and which limits and isolation are enforced here.
 */
export async function probe(store: ImageStore): Promise<BuilderReport> {
  const { settings } = store;
  const root = settings.profile === "root";
  const { versions, problems } = await probePrograms(store);
  const missing = problems.length > 0;
  if (!(await answers(store, "containers-storage", ["--help"]))) {
    problems.push({
      problem: "containers-storage is missing: what failed pulls leave stays on the disk.",
      remedy: "Debian and Ubuntu: apt-get install containers-storage",
    });
  }
  const cgroups = describeCgroups(settings.cgroupRoot);
  const limited = root && cgroups.controllers.length === 3;
  if (root && !limited) {
    problems.push({
      problem: `cgroup ${cgroups.version} offers only: ${cgroups.controllers.join(", ") || "nothing"}.`,
      remedy: "Mount the memory, cpu and pids controllers; without them builds are refused.",
    });
  }
  const tun = canMakeNetwork();
  if (!tun && settings.network === "internet") {
    problems.push({
      problem: "/dev/net/tun cannot be opened, so run lines have no network.",
      remedy:
        "As root: modprobe tun; chmod 0666 /dev/net/tun (udev's own mode), or set the build network to none.",
    });
  }
  const networked = settings.network === "internet" && tun;
  return {
    driver: "buildah",
    version: /\d+\.\d+[\w.]*/.exec(versions.get("buildah") ?? "")?.[0] ?? "",
    ready: !missing && (limited || !root),
    problems,
    enforced: enforcedPromises({ root, missing, networked, cgroup: limited ? cgroups.version : null }),
  };
}

/** Looks for the programs that the driver runs: the version lines by Debian package, and what is missing. */
async function probePrograms(
  store: ImageStore,
): Promise<{ versions: Map<string, string>; problems: BuilderReport["problems"] }> {
  const { tools, profile } = store.settings;
  const programs: RequiredProgram[] = [
    { program: tools.buildah, debian: "buildah", why: "builds images" },
    { program: tools.runc, debian: "runc", why: "runs the run lines" },
    { program: "mke2fs", debian: "e2fsprogs", why: "makes disks", args: ["-V"] },
    { program: "setpriv", debian: "util-linux", why: "ties children to the worker" },
    { program: tools.slirp4netns, debian: "slirp4netns", why: "gives run lines and pulls the internet" },
    { program: "ip", debian: "iproute2", why: "closes private ranges to run lines and pulls", args: ["-V"] },
  ];
  if (profile !== "root") {
    const why = "maps users without root";
    programs.push({ program: "newuidmap", debian: "uidmap", why, args: ["--help"] });
  }
  const versions = new Map<string, string>();
  const problems: BuilderReport["problems"] = [];
  for (const { program, debian, why, args } of programs) {
    const found = await answers(store, program, args ?? ["--version"]);
    if (found) versions.set(debian, (found.stdout || found.stderr).split("\n")[0] ?? "");
    else {
      problems.push({
        problem: `${debian} is missing: it ${why}.`,
        remedy: `Debian and Ubuntu: apt-get install ${debian}`,
      });
    }
  }
  return { versions, problems };
}

/** Runs a program for a moment; null if it cannot be run. */
async function answers(store: ImageStore, program: string, args: string[]): Promise<RunResult | null> {
  const options = { timeoutMs: 10_000, env: store.environment() };
  return await run(program, args, options).catch(() => null);
}

interface Findings {
  root: boolean;
  /** Whether a required program is missing. */
  missing: boolean;
  /** Whether run lines get a network. */
  networked: boolean;
  /** The version of the cgroups that limit a build; null if none do. */
  cgroup: "v1" | "v2" | null;
}

/** Each promise of the security model, and whether and how it is kept. */
function enforcedPromises({ root, missing, networked, cgroup }: Findings): BuilderReport["enforced"] {
  const byCgroup = (controller: string, without: string) =>
    cgroup
      ? { enforced: true, how: `cgroup ${cgroup}, ${controller}` }
      : { enforced: false, how: `${without}; the whole build needs the root profile` };
  return [
    { what: "memory limit", ...byCgroup("memory", "each process alone is bounded (RLIMIT_DATA)") },
    { what: "cpu limit", ...byCgroup("cpu", "not bounded") },
    {
      what: "pids limit",
      ...(root
        ? byCgroup("pids", "not bounded")
        : { enforced: true, how: "RLIMIT_NPROC inside the build's user namespace" }),
    },
    {
      what: "disk limit",
      enforced: true,
      how: "measured while it runs, checked at the end, with a reserve for the host",
    },
    { what: "time limit", enforced: true, how: "the process tree is ended" },
    {
      what: "network filter",
      enforced: true,
      how: networked
        ? "own network namespace, slirp4netns, unreachable routes, no IPv6"
        : "run lines have no network at all",
    },
    {
      what: "no host root",
      enforced: !root,
      how: root ? "runc, seccomp, few capabilities" : "user namespace",
    },
    {
      what: "process isolation",
      enforced: !missing,
      how: "runc: own pid, mount, ipc and uts namespaces, seccomp",
    },
  ];
}
