// Reports which programs and kernel features this machine has and lacks, how to install them, and which
// promises hold.

import { run } from "@formation-mcp/os";
import { describeCgroups } from "./cgroup.ts";
import type { Store } from "./image-store.ts";
import { canMakeNetwork } from "./network.ts";
import type { BuilderReport } from "./port.ts";

interface Need {
  program: string;
  debian: string;
  why: string;
  args?: string[];
}

/** Probes the machine; changes nothing. */
export async function probe(store: Store): Promise<BuilderReport> {
  const { settings } = store;
  const root = settings.profile === "root";
  const problems: BuilderReport["problems"] = [];
  const needs: Need[] = [
    { program: settings.tools.buildah, debian: "buildah", why: "builds images" },
    { program: settings.tools.runc, debian: "runc", why: "runs the run lines" },
    { program: "mke2fs", debian: "e2fsprogs", why: "makes disks", args: ["-V"] },
    { program: "setpriv", debian: "util-linux", why: "ties children to the worker" },
    {
      program: settings.tools.slirp4netns,
      debian: "slirp4netns",
      why: "gives run lines and pulls the internet",
    },
    { program: "ip", debian: "iproute2", why: "closes private ranges to run lines and pulls", args: ["-V"] },
  ];
  if (!root)
    needs.push({ program: "newuidmap", debian: "uidmap", why: "maps users without root", args: ["--help"] });
  const versions = new Map<string, string>();
  for (const need of needs) {
    const found = await run(need.program, need.args ?? ["--version"], {
      timeoutMs: 10_000,
      env: store.environment(),
    }).catch(() => null);
    if (found) versions.set(need.debian, (found.stdout || found.stderr).split("\n")[0] ?? "");
    else {
      problems.push({
        problem: `${need.debian} is missing: it ${need.why}.`,
        remedy: `Debian and Ubuntu: apt-get install ${need.debian}`,
      });
    }
  }
  const missing = problems.length > 0;
  const tidy = await run("containers-storage", ["--help"], {
    timeoutMs: 10_000,
    env: store.environment(),
  }).catch(() => null);
  if (!tidy) {
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
  const cgroup = (what: string, without: string) =>
    limited
      ? { enforced: true, how: `cgroup ${cgroups.version}, ${what}` }
      : { enforced: false, how: `${without}; the whole build needs the root profile` };
  return {
    driver: "buildah",
    version: /\d+\.\d+[\w.]*/.exec(versions.get("buildah") ?? "")?.[0] ?? "",
    ready: !missing && (limited || !root),
    problems,
    enforced: [
      { what: "memory limit", ...cgroup("memory", "each process alone is bounded (RLIMIT_DATA)") },
      { what: "cpu limit", ...cgroup("cpu", "not bounded") },
      {
        what: "pids limit",
        ...(root
          ? cgroup("pids", "not bounded")
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
    ],
  };
}
