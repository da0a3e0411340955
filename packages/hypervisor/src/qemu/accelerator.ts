// This folder knows how QEMU runs a machine: its command line, its disk and kernel files, and what confines
// it on the host. This file finds out whether the host can run guests by KVM, or must emulate them (TCG).
// That /dev/kvm exists proves nothing: a guest must boot with the options that machines get. The answer holds
// for one boot of the host and one version of QEMU.

import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { readFileIfPresent, run, writeFileAtomic } from "@formation-mcp/os";
import { kernelCommandLine, QEMU } from "./command-line.ts";
import { confinement } from "./confinement.ts";

interface Acceleration {
  accelerator: "kvm" | "tcg";
  reason: string;
}

export interface Accelerators {
  /** The accelerator to use, with the reason. The first call may boot a guest to find out. */
  choose(): Promise<Acceleration>;
  /** What is known without booting a guest. */
  peek(): Acceleration;
}

export interface AcceleratorOptions {
  /** For the stored answer and the trials' files. */
  stateDir: string;
  wanted: "auto" | "kvm" | "tcg";
  /** The account number (uid) that machines run as; null for the worker's own account. */
  uid: number | null;
  /** The paths of the kernel and the initramfs that machines get. */
  guest(): Promise<{ image: string; initramfs: string }>;
}

const TRIAL_PREFIX = "kvm-trial-";
const FIRMWARE_TRIAL_MS = 3000;
const BOOT_TRIAL_MS = 15_000;
/** Our init prints it when it finds no disk: by then the kernel, its drivers and a first program ran. */
const INIT_MARK = "formation-init:";

export function createAccelerators(options: AcceleratorOptions): Accelerators {
  let answer: Promise<Acceleration> | null = null;
  return {
    peek() {
      if (options.wanted !== "auto") return { accelerator: options.wanted, reason: "configured" };
      return (
        withoutTrial(options.uid) ?? { accelerator: "kvm", reason: "not tried yet: the first start will" }
      );
    },
    choose() {
      if (options.wanted !== "auto") {
        return Promise.resolve({ accelerator: options.wanted, reason: "configured" });
      }
      answer ??= storedOrTried(options).catch((error: unknown) => {
        answer = null;
        throw error;
      });
      return answer;
    },
  };
}

/** The stored answer of this boot and QEMU version, or that of a new trial. */
async function storedOrTried(options: AcceleratorOptions): Promise<Acceleration> {
  const quick = withoutTrial(options.uid);
  if (quick) return quick;
  const path = join(options.stateDir, "accelerator.json");
  const key = [
    readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    (await run(QEMU, ["--version"], { timeoutMs: 10_000 })).stdout.split("\n")[0],
    options.uid === null ? "user" : "root",
  ].join(" ");
  try {
    const stored = JSON.parse(readFileIfPresent(path) ?? "{}") as Partial<Acceleration> & { key?: string };
    if (stored.key === key && (stored.accelerator === "kvm" || stored.accelerator === "tcg")) {
      return { accelerator: stored.accelerator, reason: stored.reason ?? "tried before" };
    }
  } catch {
    // Unreadable: a new trial overwrites it.
  }
  const found = await tryKvm(options);
  writeFileAtomic(path, JSON.stringify({ key, ...found }));
  return found;
}

/** The answer where a look at the host is enough; null where a trial must decide. */
function withoutTrial(uid: number | null): Acceleration | null {
  const tcg = (reason: string): Acceleration => ({ accelerator: "tcg", reason });
  if (!existsSync("/dev/kvm")) return tcg("there is no /dev/kvm");
  if (!existsSync("/sys/module/kvm_intel") && !existsSync("/sys/module/kvm_amd")) {
    return tcg("/dev/kvm is there, but neither kvm_intel nor kvm_amd is loaded");
  }
  if (uid === null) {
    try {
      closeSync(openSync("/dev/kvm", "r+"));
    } catch {
      return tcg("this account may not open /dev/kvm; add it to the group kvm");
    }
  } else if (kvmGroup() === null)
    return tcg("/dev/kvm is open to root alone, and machines do not run as root");
  return null;
}

/** The group that may use /dev/kvm; 0 if every account may, null if only root may. */
export function kvmGroup(): number | null {
  const info = statSync("/dev/kvm", { throwIfNoEntry: false });
  if (info === undefined) return null;
  if ((info.mode & 0o006) === 0o006) return 0;
  return (info.mode & 0o060) === 0o060 && info.gid !== 0 ? info.gid : null;
}

/** Boots a firmware of a few instructions, then a machine's kernel without a disk, both by KVM. */
async function tryKvm(options: AcceleratorOptions): Promise<Acceleration> {
  const tcg = (reason: string): Acceleration => ({ accelerator: "tcg", reason });
  sweepTrials(options.stateDir);
  const work = mkdtempSync(join(options.stateDir, TRIAL_PREFIX));
  try {
    chmodSync(work, 0o755);
    const code = await tryFirmware(options.uid, work);
    if (code !== 33) return tcg(`/dev/kvm is there, but a first instruction under KVM failed (code ${code})`);
    return (await doesGuestBoot(options, work))
      ? { accelerator: "kvm", reason: "a guest booted with it" }
      : tcg("/dev/kvm is there, but a guest does not boot with it");
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Removes the files of trials whose process died. */
function sweepTrials(stateDir: string): void {
  for (const name of readdirSync(stateDir)) {
    if (name.startsWith(TRIAL_PREFIX)) rmSync(join(stateDir, name), { recursive: true, force: true });
  }
}

/** Runs `trialFirmware`; resolves with QEMU's exit code, 33 if its instructions ran. */
function tryFirmware(uid: number | null, work: string): Promise<number> {
  writeFileSync(join(work, "probe.bin"), trialFirmware(), { mode: 0o644 });
  const machine = "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off";
  const boot = ["-M", machine, "-m", "16", "-bios", "probe.bin"];
  const exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"];
  return runQemu(uid, work, [...boot, ...exit], FIRMWARE_TRIAL_MS);
}

/** Whether our init runs when a machine's kernel and initramfs are booted. */
async function doesGuestBoot({ uid, guest }: AcceleratorOptions, work: string): Promise<boolean> {
  const { image, initramfs } = await guest();
  for (const [from, to] of [
    [image, "kernel"],
    [initramfs, "initrd"],
  ] as const) {
    copyFileSync(from, join(work, to));
    chmodSync(join(work, to), 0o644);
  }
  writeFileSync(join(work, "console"), "", { mode: 0o600 });
  if (uid !== null) chownSync(join(work, "console"), uid, uid);
  const boot = ["-M", "q35,usb=off,graphics=off", "-m", "192", "-kernel", "kernel", "-initrd", "initrd"];
  const serial = ["-chardev", "file,id=c,path=console,append=on", "-serial", "chardev:c"];
  const line = ["-append", kernelCommandLine({ accelerator: "kvm", vcpus: 1 })];
  await runQemu(uid, work, [...boot, ...serial, ...line], BOOT_TRIAL_MS);
  return readFileSync(join(work, "console"), "latin1").includes(INIT_MARK);
}

/** Runs QEMU by KVM, confined as a machine is; resolves with its exit code, -1 if it had to be killed. */
async function runQemu(
  uid: number | null,
  cwd: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<number> {
  const kvm = ["-accel", "kvm", "-cpu", "host"];
  const common = ["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"];
  const command = [...confinement(uid, [], kvmGroup()), QEMU, ...kvm, ...common, ...args];
  const [program = QEMU, ...rest] = command;
  try {
    return (await run(program, rest, { cwd, timeoutMs, graceMs: 0 })).code;
  } catch {
    return -1;
  }
}

/**
 * 64 KiB whose first instructions, in real mode, write 0x10 to port 0xf4: QEMU then exits with 2*0x10+1 = 33.
 */
function trialFirmware(): Buffer {
  const image = Buffer.alloc(65_536, 0xff);
  // mov al,10h; out f4h,al; cli; hlt; jmp
  image.set([0xb0, 0x10, 0xe6, 0xf4, 0xfa, 0xf4, 0xeb, 0xfd], 0xff00);
  // The reset vector: jmp ff00h
  image.set([0xe9, 0x0d, 0xff], 0xfff0);
  return image;
}
