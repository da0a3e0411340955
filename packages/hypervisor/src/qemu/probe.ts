// What this host has, lacks and really enforces, for `doctor` and the node's record. Looks, and changes nothing.

import { accessSync, constants, existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { plainEnvironment, run } from "@formation-mcp/os";
import { kernelDirectory, storedKernel } from "../guest/kernel.ts";
import type { HypervisorReport } from "../port.ts";
import type { Accelerators } from "./accelerator.ts";
import type { Cgroups } from "./cgroup.ts";
import { QEMU } from "./command-line.ts";
import type { QemuSettings } from "./driver.ts";

/** Programs that must be there, with the Debian package that brings them. */
const NEEDED: Record<string, string> = {
  [QEMU]: "qemu-system-x86",
  "qemu-img": "qemu-utils",
  setpriv: "util-linux",
  fallocate: "util-linux",
};
const TO_FETCH_A_KERNEL: Record<string, string> = {
  "apt-get": "apt",
  "apt-cache": "apt",
  "dpkg-deb": "dpkg",
};

export async function probe(
  settings: QemuSettings,
  parts: { accelerators: Accelerators; cgroups: Cgroups; uidBase: number },
): Promise<HypervisorReport> {
  const problems: HypervisorReport["problems"] = [];
  const lacks = (programs: Record<string, string>) =>
    Object.entries(programs).filter(([program]) => !find(program));
  for (const [program, name] of lacks(NEEDED)) {
    problems.push({ problem: `${program} is not installed.`, remedy: `apt-get install ${name}` });
  }
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
  const kernel = settings.kernel ?? storedKernel(kernelDirectory(settings.stateDir));
  if (kernel === null && lacks(TO_FETCH_A_KERNEL).length > 0) {
    problems.push({
      problem: "There is no guest kernel yet, and no apt to fetch one.",
      remedy: "Give a kernel image, its modules and its version in the configuration.",
    });
  }
  const ready = problems.length === 0;
  const { choose, peek } = parts.accelerators;
  // Trying a guest needs its kernel; a mere look must not download one.
  const acceleration = find(QEMU) && kernel !== null ? await choose().catch(peek) : peek();
  return {
    driver: "qemu",
    version: await versions(kernel?.version ?? null),
    accelerator: acceleration.accelerator,
    ready,
    problems,
    enforced: enforced(settings, parts, acceleration),
  };
}

function enforced(
  settings: QemuSettings,
  { cgroups, uidBase }: { cgroups: Cgroups; uidBase: number },
  acceleration: { accelerator: string; reason: string },
): HypervisorReport["enforced"] {
  const isRoot = settings.profile === "root";
  const filter = isRoot && find("iptables") !== null;
  const lacking = cgroups.lacking();
  const grouped = isRoot && lacking.length === 0;
  const groups = grouped ? `cgroup v${cgroups.version}, one group per machine` : null;
  const noGroups = !isRoot
    ? "needs root"
    : cgroups.version === null
      ? "no cgroups found"
      : `cgroups for ${lacking.join(", ")} cannot be made here`;
  return [
    {
      what: "hardware virtualization",
      enforced: acceleration.accelerator === "kvm",
      how: acceleration.reason,
    },
    {
      what: "account per machine",
      enforced: isRoot,
      how: isRoot
        ? `accounts from ${uidBase} on, no capabilities`
        : "machines run as the worker's own account",
    },
    { what: "system call filter", enforced: true, how: "QEMU's seccomp sandbox, no new privileges" },
    {
      what: "memory limit",
      enforced: true,
      how: `the guest's memory is fixed by QEMU; the whole process by ${groups ?? `nothing more: ${noGroups}`}`,
    },
    {
      what: "processor limit",
      enforced: true,
      how: `as many threads compute as the guest has processors; ${groups ?? `the rest is unlimited: ${noGroups}`}`,
    },
    { what: "process limit", enforced: groups !== null, how: groups ?? noGroups },
    { what: "disk limit", enforced: true, how: "the machine's disk has a fixed size" },
    {
      what: "no way to the host's network",
      enforced: true,
      how: filter
        ? "guests without internet can open no connection; the others are filtered by their account (iptables)"
        : "guests can open no connection at all",
    },
    {
      what: "internet for guests",
      enforced: filter && settings.egress === "internet",
      how: internet(settings, filter),
    },
  ];
}

function internet(settings: QemuSettings, filter: boolean): string {
  if (settings.egress === "none") return "turned off in the configuration";
  if (filter) return "where a machine asks for it; private and local networks stay closed";
  return settings.profile === "root"
    ? "needs iptables: apt-get install iptables"
    : "none: filtering it needs root";
}

async function versions(kernel: string | null): Promise<string> {
  let qemu = "not installed";
  if (find(QEMU)) {
    const said = await run(QEMU, ["--version"], { timeoutMs: 10_000 }).catch(() => null);
    qemu = /version (\S+)/.exec(said?.stdout ?? "")?.[1] ?? "unknown";
  }
  return `QEMU ${qemu}, guest kernel ${kernel ?? "not fetched yet"}`;
}

function find(program: string): string | null {
  for (const directory of (plainEnvironment()["PATH"] ?? "").split(delimiter)) {
    const path = join(directory, program);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // not there
    }
  }
  return null;
}
