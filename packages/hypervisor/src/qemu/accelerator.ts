// Whether the host's processor can run guests itself (KVM) or they must be emulated (TCG). A device that is there proves
// nothing: what counts is that a guest boots with the very options that machines get. The answer holds for one boot of the
// host and one version of QEMU.

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
import { readIfThere, run, writeFileAtomic } from "@formation-mcp/os";
import { kernelCommandLine, QEMU } from "./command-line.ts";
import { confinement } from "./confinement.ts";

interface Acceleration {
  accelerator: "kvm" | "tcg";
  reason: string;
}

export interface Accelerators {
  choose(): Promise<Acceleration>;
  /** What is known without booting anything. */
  peek(): Acceleration;
}

export interface AcceleratorOptions {
  /** For the remembered answer and the trials. */
  stateDir: string;
  wanted: "auto" | "kvm" | "tcg";
  /** The account that machines run as, or null for our own. */
  uid: number | null;
  /** The kernel and the initramfs of machines, for the last trial. */
  guest(): Promise<{ image: string; initramfs: string }>;
}

const TRIAL_MS = 3000;
const BOOT_MS = 15_000;
/** What our init says when it finds no disk: then the kernel, its drivers and a first program ran. */
const MARK = "formation-init:";

export function openAccelerators(options: AcceleratorOptions): Accelerators {
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
      answer ??= remembered(options).catch((error: unknown) => {
        answer = null;
        throw error;
      });
      return answer;
    },
  };
}

async function remembered(options: AcceleratorOptions): Promise<Acceleration> {
  const quick = withoutTrial(options.uid);
  if (quick) return quick;
  const path = join(options.stateDir, "accelerator.json");
  const key = [
    readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim(),
    (await run(QEMU, ["--version"], { timeoutMs: 10_000 })).stdout.split("\n")[0],
    options.uid === null ? "user" : "root",
  ].join(" ");
  try {
    const stored = JSON.parse(readIfThere(path) ?? "{}") as Partial<Acceleration> & { key?: string };
    if (stored.key === key && (stored.accelerator === "kvm" || stored.accelerator === "tcg")) {
      return { accelerator: stored.accelerator, reason: stored.reason ?? "tried before" };
    }
  } catch {
    // Unreadable: tried anew.
  }
  const found = await tried(options);
  writeFileAtomic(path, JSON.stringify({ key, ...found }));
  return found;
}

/** What can be said by looking alone. */
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

/** The group that may use /dev/kvm; 0 where everybody may, null where nobody but root. */
export function kvmGroup(): number | null {
  const info = statSync("/dev/kvm", { throwIfNoEntry: false });
  if (info === undefined) return null;
  if ((info.mode & 0o006) === 0o006) return 0;
  return (info.mode & 0o060) === 0o060 && info.gid !== 0 ? info.gid : null;
}

async function tried(options: AcceleratorOptions): Promise<Acceleration> {
  const tcg = (reason: string): Acceleration => ({ accelerator: "tcg", reason });
  for (const name of readdirSync(options.stateDir)) {
    if (name.startsWith("kvm-trial-")) rmSync(join(options.stateDir, name), { recursive: true, force: true });
  }
  const work = mkdtempSync(join(options.stateDir, "kvm-trial-"));
  try {
    chmodSync(work, 0o755);
    writeFileSync(join(work, "probe.bin"), probeFirmware(), { mode: 0o644 });
    writeFileSync(join(work, "console"), "", { mode: 0o600 });
    if (options.uid !== null) chownSync(join(work, "console"), options.uid, options.uid);
    const small = [
      "-M",
      "microvm,acpi=off,pit=off,pic=off,rtc=off,isa-serial=off",
      "-m",
      "16",
      "-bios",
      "probe.bin",
    ];
    const exit = ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"];
    const code = await trial(options.uid, work, [...small, ...exit], TRIAL_MS);
    if (code !== 33) return tcg(`/dev/kvm is there, but a first instruction under KVM failed (code ${code})`);
    const { image, initramfs } = await options.guest();
    for (const [from, to] of [
      [image, "kernel"],
      [initramfs, "initrd"],
    ] as const) {
      copyFileSync(from, join(work, to));
      chmodSync(join(work, to), 0o644);
    }
    const boot = ["-M", "q35,usb=off,graphics=off", "-m", "192", "-kernel", "kernel", "-initrd", "initrd"];
    const serial = ["-chardev", "file,id=c,path=console,append=on", "-serial", "chardev:c"];
    const line = ["-append", kernelCommandLine({ accelerator: "kvm", vcpus: 1 })];
    await trial(options.uid, work, [...boot, ...serial, ...line], BOOT_MS);
    return readFileSync(join(work, "console"), "latin1").includes(MARK)
      ? { accelerator: "kvm", reason: "a guest booted with it" }
      : tcg("/dev/kvm is there, but a guest does not boot with it");
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function trial(
  uid: number | null,
  cwd: string,
  args: readonly string[],
  timeoutMs: number,
): Promise<number> {
  const common = [
    "-accel",
    "kvm",
    "-cpu",
    "host",
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
  ];
  const [program = QEMU, ...rest] = [...confinement(uid, [], kvmGroup()), QEMU, ...common, ...args];
  try {
    return (await run(program, rest, { cwd, timeoutMs, graceMs: 0 })).code;
  } catch {
    return -1; // It hung and was killed.
  }
}

/** 64 KiB of firmware whose first instructions, in real mode, write 0x10 to port 0xf4: QEMU exits with 2·0x10+1 = 33. */
function probeFirmware(): Buffer {
  const image = Buffer.alloc(65_536, 0xff);
  image.set([0xb0, 0x10, 0xe6, 0xf4, 0xfa, 0xf4, 0xeb, 0xfd], 0xff00); // mov al,10h; out f4h,al; cli; hlt; jmp
  image.set([0xe9, 0x0d, 0xff], 0xfff0); // the reset vector: jmp ff00h
  return image;
}
