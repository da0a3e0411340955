// The report for `doctor` and the node's record: what this host has, what it lacks, and which limits are
// enforced on it.

import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { plainEnvironment, run } from "@formation-mcp/os";
import { kernelDirectory, storedKernel } from "../guest/kernel-store.ts";
import type { HypervisorReport } from "../port.ts";
import type { Accelerators } from "./accelerator.ts";
import type { Cgroups } from "./cgroup.ts";
import { QEMU } from "./command-line.ts";
import type { QemuSettings } from "./settings.ts";

/** Required programs, with the Debian package of each. */
const REQUIRED_PROGRAMS: Record<string, string> = {
  [QEMU]: "qemu-system-x86",
  "qemu-img": "qemu-utils",
  setpriv: "util-linux",
  fallocate: "util-linux",
};
/** What downloads a kernel. */
const KERNEL_PROGRAMS: Record<string, string> = {
  "apt-get": "apt",
  "apt-cache": "apt",
  "dpkg-deb": "dpkg",
};

/** The parts of the driver that know what the host enforces. */
export interface ProbeDeps {
  accelerators: Accelerators;
  cgroups: Cgroups;
  uidBase: number;
}

/** See `Hypervisor.probe`. Never throws. */
export async function probe(settings: QemuSettings, deps: ProbeDeps): Promise<HypervisorReport> {
  const kernel = settings.kernel ?? storedKernel(kernelDirectory(settings.stateDir));
  const problems = findProblems(settings, kernel !== null);
  const { choose, peek } = deps.accelerators;
  // A trial boots a guest, which needs the kernel. A probe must not download it.
  const acceleration = find(QEMU) && kernel !== null ? await choose().catch(peek) : peek();
  return {
    driver: "qemu",
    version: await versions(kernel?.version ?? null),
    accelerator: acceleration.accelerator,
    ready: problems.length === 0,
    problems,
    enforced: enforcement(settings, deps, acceleration),
  };
}

function findProblems(settings: QemuSettings, hasKernel: boolean): HypervisorReport["problems"] {
  const problems = missing(REQUIRED_PROGRAMS).map(([program, debianPackage]) => ({
    problem: `${program} is not installed.`,
    remedy: `apt-get install ${debianPackage}`,
  }));
  if (!existsSync(settings.busyboxPath)) {
    problems.push({
      problem: `There is no busybox at ${settings.busyboxPath}.`,
      remedy: "apt-get install busybox-static",
    });
  }
  if (process.arch !== "x64") {
    problems.push({
      problem: `Machines run on x86-64 alone; this is ${process.arch}.`,
      remedy: "Use an x86-64 host.",
    });
  }
  if (!hasKernel && missing(KERNEL_PROGRAMS).length > 0) {
    problems.push({
      problem: "There is no guest kernel yet, and no apt to fetch one.",
      remedy: "Give a kernel image, its modules and its version in the configuration.",
    });
  }
  return problems;
}

function enforcement(
  settings: QemuSettings,
  { cgroups, uidBase }: ProbeDeps,
  acceleration: { accelerator: string; reason: string },
): HypervisorReport["enforced"] {
  const isRoot = settings.profile === "root";
  const hasFilter = isRoot && find("iptables") !== null;
  const account = isRoot
    ? `accounts from ${uidBase} on, no capabilities`
    : "machines run as the worker's own account";
  const network = hasFilter
    ? "guests without internet can open no connection; the others are filtered by their account (iptables)"
    : "guests can open no connection at all";
  return [
    {
      what: "hardware virtualization",
      enforced: acceleration.accelerator === "kvm",
      how: acceleration.reason,
    },
    { what: "account per machine", enforced: isRoot, how: account },
    { what: "system call filter", enforced: true, how: "QEMU's seccomp sandbox, no new privileges" },
    ...groupEnforcement(isRoot, cgroups),
    { what: "disk limit", enforced: true, how: "the machine's disk has a fixed size" },
    { what: "no way to the host's network", enforced: true, how: network },
    {
      what: "internet for guests",
      enforced: hasFilter && settings.egress === "internet",
      how: internet(settings, hasFilter),
    },
  ];
}

/** The limits that QEMU sets itself and cgroups tighten. */
function groupEnforcement(isRoot: boolean, cgroups: Cgroups): HypervisorReport["enforced"] {
  const lacking = cgroups.lacking();
  const isGrouped = isRoot && lacking.length === 0;
  const groups = isGrouped ? `cgroup v${cgroups.version}, one group per machine` : null;
  const whyNot = !isRoot
    ? "needs root"
    : cgroups.version === null
      ? "no cgroups found"
      : `cgroups for ${lacking.join(", ")} cannot be made here`;
  return [
    {
      what: "memory limit",
      enforced: true,
      how: `the guest's memory is fixed by QEMU; the whole process by ${groups ?? `nothing more: ${whyNot}`}`,
    },
    {
      what: "processor limit",
      enforced: true,
      how:
        "as many threads compute as the guest has processors; " +
        (groups ?? `the rest is unlimited: ${whyNot}`),
    },
    { what: "process limit", enforced: isGrouped, how: groups ?? whyNot },
  ];
}

function internet(settings: QemuSettings, hasFilter: boolean): string {
  if (settings.egress === "none") return "turned off in the configuration";
  if (hasFilter) return "where a machine asks for it; private and local networks stay closed";
  return settings.profile === "root"
    ? "needs iptables: apt-get install iptables"
    : "none: filtering it needs root";
}

function missing(programs: Record<string, string>): [program: string, debianPackage: string][] {
  return Object.entries(programs).filter(([program]) => !find(program));
}

async function versions(kernel: string | null): Promise<string> {
  let qemu = "not installed";
  if (find(QEMU)) {
    const said = await run(QEMU, ["--version"], { timeoutMs: 10_000 }).catch(() => null);
    qemu = /version (\S+)/.exec(said?.stdout ?? "")?.[1] ?? "unknown";
  }
  return `QEMU ${qemu}, guest kernel ${kernel ?? "not fetched yet"}`;
}

/** The path of a program in PATH; null if there is none. */
function find(program: string): string | null {
  for (const directory of (plainEnvironment()["PATH"] ?? "").split(delimiter)) {
    const path = join(directory, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // Not in this directory.
    }
  }
  return null;
}
