// What a machine's directories hold for QEMU: at creation the copy-on-write disk over the shared base and the
// guest's configuration, before each boot the kernel and the initramfs.

import {
  appendFileSync,
  chmodSync,
  chownSync,
  copyFileSync,
  linkSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { run } from "@formation-mcp/os";
import { guestConfig } from "../guest/config.ts";
import { ensureInitramfs } from "../guest/initramfs.ts";
import { ensureKernel } from "../guest/kernel.ts";
import { MACHINE_FILES, type MachinePaths } from "../machine/files.ts";
import type { Journal } from "../machine/journal.ts";
import type { MachineSpec, StartHooks } from "../port.ts";
import type { QemuSettings } from "./settings.ts";

/** The machine's own part of the initramfs. It may hold secrets, so only the worker can read it. */
const CONFIG_FILE = "config.cpio";

/** Writes the guest's configuration and makes the disk. @throws FormationError `unavailable` */
export async function provision(spec: MachineSpec, paths: MachinePaths): Promise<void> {
  const config = guestConfig({
    hostname: spec.hostname,
    process: spec.process,
    ports: spec.ports.map(({ guest_port }) => guest_port),
    egress: spec.egress,
  });
  writeFileSync(join(paths.directory, CONFIG_FILE), config, { mode: 0o600 });
  await createOverlay(spec.disk, paths.runDirectory);
}

/** Links the base into the run directory and makes a qcow2 layer over it. See qemu-img(1). */
async function createOverlay(base: string, runDirectory: string): Promise<void> {
  await linkOrCopy(base, join(runDirectory, MACHINE_FILES.base));
  const made = await run(
    "qemu-img",
    ["create", "-q", "-f", "qcow2", "-b", MACHINE_FILES.base, "-F", "raw", MACHINE_FILES.disk],
    { cwd: runDirectory, timeoutMs: 60_000 },
  );
  if (made.code !== 0) {
    const why = made.stderr.trim().split("\n").at(-1) ?? "";
    throw new FormationError("unavailable", `The machine's disk cannot be made: ${why}`, { step: "boot" });
  }
  chmodSync(join(runDirectory, MACHINE_FILES.disk), 0o600);
}

/** A hard link keeps the base for this machine when a cache removes it. */
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

/** The kernel and the initramfs that all machines share; fetched and built if they are missing. */
export async function ensureGuestImages(
  settings: QemuSettings,
  hooks: Partial<StartHooks> = {},
): Promise<{ image: string; initramfs: string }> {
  const kernel = await ensureKernel({
    stateDir: settings.stateDir,
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

/** Puts the kernel, and the initramfs with the machine's configuration, into the run directory. */
export async function prepareBoot(
  settings: QemuSettings,
  journal: Journal,
  paths: MachinePaths,
  hooks: StartHooks,
): Promise<void> {
  const { image, initramfs } = await ensureGuestImages(settings, hooks);
  const kernel = join(paths.runDirectory, MACHINE_FILES.kernel);
  rmSync(kernel, { force: true });
  try {
    linkSync(image, kernel);
  } catch {
    copyFileSync(image, kernel);
  }
  const initrd = join(paths.runDirectory, MACHINE_FILES.initrd);
  rmSync(initrd, { force: true });
  copyFileSync(initramfs, initrd);
  chmodSync(initrd, 0o600);
  appendFileSync(initrd, readFileSync(join(paths.directory, CONFIG_FILE)));
  if (journal.uid !== null) chownSync(initrd, journal.uid, journal.uid);
}
