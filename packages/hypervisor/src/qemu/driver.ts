// How QEMU runs a machine: a copy-on-write disk over the shared base, the guest's kernel and initramfs, an account of its
// own, cgroups and firewall rules where we are root.

import { createHash } from "node:crypto";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FormationError, type Logger } from "@formation-mcp/contract";
import { run } from "@formation-mcp/os";
import { guestConfig } from "../guest/config.ts";
import { ensureInitramfs } from "../guest/initramfs.ts";
import { ensureKernel, type KernelOverride, kernelDirectory } from "../guest/kernel.ts";
import type { Place, Runner } from "../machine/driver.ts";
import { MACHINE_FILES } from "../machine/files.ts";
import type { Journal } from "../machine/journal.ts";
import { TIED } from "../machine/leash.ts";
import type { MachineSpec, MachineStatus, StartHooks } from "../port.ts";
import { kvmGroup, openAccelerators } from "./accelerator.ts";
import { openCgroups } from "./cgroup.ts";
import { QEMU, qemuArguments } from "./command-line.ts";
import { confinement } from "./confinement.ts";
import { openFirewall } from "./firewall.ts";
import { probe } from "./probe.ts";

export interface QemuSettings {
  stateDir: string;
  bindAddress: string;
  profile: "root" | "user";
  kernel: KernelOverride | undefined;
  accelerator: "auto" | "kvm" | "tcg";
  egress: "internet" | "none";
  allowCidrs: readonly string[];
  denyCidrs: readonly string[];
  /** Default: a block by the state directory's name. */
  uidBase: number | undefined;
  busyboxPath: string;
  logger: Logger;
}

/** The file with the machine's own part of the initramfs: it may hold secrets, so only the worker reads it. */
const CONFIG_FILE = "config.cpio";

// Account numbers that nobody has: far above those of people and containers, below 2^31.
const FIRST_UID = 2_000_000_000;
const UIDS_PER_BLOCK = 1000;
const UID_BLOCKS = 140_000;

export function qemuRunner(settings: QemuSettings): Runner {
  const { stateDir, logger } = settings;
  const isRoot = settings.profile === "root";
  // Two workers on one host have two state directories, and so two names.
  const short = createHash("sha256").update(realpathSync(stateDir)).digest("hex").slice(0, 8);
  const uidBase = settings.uidBase ?? FIRST_UID + (Number.parseInt(short, 16) % UID_BLOCKS) * UIDS_PER_BLOCK;
  const { allowCidrs, denyCidrs } = settings;
  const firewall = openFirewall({ chain: `FM-${short}`, allowCidrs, denyCidrs, enabled: isRoot, logger });
  const cgroups = openCgroups(`formation-${short}`, isRoot, logger);
  const accelerators = openAccelerators({
    stateDir,
    wanted: settings.accelerator,
    uid: isRoot ? uidBase : null,
    guest: () => guestOf(settings, {}),
  });
  return {
    uidBase: isRoot ? uidBase : null,
    accelerator: async () => (await accelerators.choose()).accelerator,
    make: makeFiles,
    prepare: (journal, place, hooks) => prepare(settings, journal, place, hooks),
    egress: async (journal) => {
      const none = async (reason: string): Promise<MachineStatus["egress"]> => {
        if (journal.uid !== null) await firewall.close(journal.uid);
        return { mode: "none", reason };
      };
      if (!journal.egress_wanted) return none("not asked for");
      if (settings.egress === "none") return none("turned off on this node");
      if (journal.uid === null) {
        return none("without root the node cannot keep the guest from the host's own network");
      }
      return firewall.allow(journal.uid);
    },
    command: (journal, _place, tied) => {
      const args = qemuArguments({
        name: `formation-${journal.id}`,
        accelerator: journal.accelerator ?? "tcg",
        vcpus: journal.vcpus,
        memory_mb: journal.memory_mb,
        bindAddress: settings.bindAddress,
        forwards: journal.forwards,
        egress: journal.egress.mode === "internet",
      });
      const kvm = journal.accelerator === "kvm" ? kvmGroup() : null;
      const groups = cgroups.make(journal.id, journal);
      const before = [...(tied ? TIED : []), ...confinement(journal.uid, groups.files, kvm)];
      const [program = QEMU, ...rest] = [...before, QEMU, ...args];
      const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL: "C.UTF-8" };
      return { program, args: rest, env, unenforced: groups.missing };
    },
    release: async (journal) => {
      if (journal.uid !== null) await firewall.remove(journal.uid);
      await cgroups.remove(journal.id);
    },
    keepOnly: async (journals) => {
      await firewall.keepOnly(
        journals.flatMap(({ uid, egress }) => (uid === null ? [] : [{ uid, way: egress.mode }])),
      );
      await cgroups.keepOnly(journals.map(({ id }) => id));
    },
    restore: () => firewall.restore(),
    probe: () => probe(settings, { accelerators, cgroups, uidBase }),
  };
}

async function makeFiles(spec: MachineSpec, place: Place): Promise<void> {
  const directory = place.runDirectory;
  const config = guestConfig({
    hostname: spec.hostname,
    process: spec.process,
    ports: spec.ports.map(({ guest_port }) => guest_port),
    egress: spec.egress,
  });
  writeFileSync(join(place.directory, CONFIG_FILE), config, { mode: 0o600 });
  await linkOrCopy(spec.disk, join(directory, MACHINE_FILES.base));
  const made = await run(
    "qemu-img",
    ["create", "-q", "-f", "qcow2", "-b", MACHINE_FILES.base, "-F", "raw", MACHINE_FILES.disk],
    { cwd: directory, timeoutMs: 60_000 },
  );
  if (made.code !== 0) {
    const why = made.stderr.trim().split("\n").at(-1) ?? "";
    throw new FormationError("unavailable", `The machine's disk cannot be made: ${why}`, { step: "boot" });
  }
  chmodSync(join(directory, MACHINE_FILES.disk), 0o600);
}

/** The kernel and the common initramfs, fetched and made if they are not there. */
async function guestOf(
  settings: QemuSettings,
  hooks: Partial<StartHooks>,
): Promise<{ image: string; initramfs: string }> {
  const kernel = await ensureKernel({
    directory: kernelDirectory(settings.stateDir),
    override: settings.kernel,
    busybox: settings.busyboxPath,
    signal: hooks.signal,
    onStep: (message) => hooks.onStep?.("kernel", message),
  });
  const directory = join(settings.stateDir, "initramfs");
  return {
    image: kernel.image,
    initramfs: ensureInitramfs({ directory, kernel, busybox: settings.busyboxPath }),
  };
}

async function prepare(
  settings: QemuSettings,
  journal: Journal,
  place: Place,
  hooks: StartHooks,
): Promise<void> {
  const directory = place.runDirectory;
  const { image: kernel, initramfs } = await guestOf(settings, hooks);
  const image = join(directory, MACHINE_FILES.kernel);
  rmSync(image, { force: true });
  try {
    linkSync(kernel, image);
  } catch {
    copyFileSync(kernel, image);
  }
  const initrd = join(directory, MACHINE_FILES.initrd);
  rmSync(initrd, { force: true });
  copyFileSync(initramfs, initrd);
  chmodSync(initrd, 0o600);
  appendFileSync(initrd, readFileSync(join(place.directory, CONFIG_FILE)));
  if (journal.uid !== null) chownSync(initrd, journal.uid, journal.uid);
}

/** A link keeps the base alive for this machine when a cache drops it. */
async function linkOrCopy(from: string, to: string): Promise<void> {
  try {
    linkSync(from, to);
    return;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") {
      throw new FormationError("unavailable", "The disk to start from is gone.", {
        remedy: "Try again.",
        cause: error,
      });
    }
    if (code !== "EXDEV" && code !== "EPERM" && code !== "EMLINK") throw error;
  }
  const copied = await run("cp", ["--sparse=always", "--reflink=auto", "--", from, to], {
    cwd: "/",
    timeoutMs: 600_000,
  });
  if (copied.code !== 0) copyFileSync(from, to);
}
