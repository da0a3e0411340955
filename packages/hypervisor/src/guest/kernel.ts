// Where the guest's kernel comes from: Debian's cloud kernel package, downloaded by apt as an ordinary user,
// checked by apt against the archive's signature, and unpacked into the state directory. Nothing is ever
// installed on the host. What is stored is compared with its recorded digests once per process; what differs
// is fetched again.

import { randomBytes } from "node:crypto";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify, plainEnvironment, readIfThere, run, writeFileAtomic } from "@formation-mcp/os";
import { fileDigest } from "./digest.ts";
import { BOOT_MODULES, LATE_MODULES, packModules } from "./kernel-modules.ts";

/** A kernel that the caller brings along instead. */
export interface KernelOverride {
  /** A bzImage for x86-64. */
  image: string;
  /** The directory that holds its modules: `…/lib/modules/<version>`. */
  modules: string;
  /** Its release, as `uname -r` would say. */
  version: string;
}

/** A kernel that is there: as `KernelOverride`, with its image's digest. */
export interface Kernel {
  image: string;
  modules: string;
  version: string;
  sha256: string;
}

interface KernelRecord {
  version: string;
  package: string;
  sha256: string;
  /** Of every file, by its path below the kernel's directory. */
  files: Record<string, string>;
}

const META_PACKAGE = "linux-image-cloud-amd64";
const RECORD = "kernel.json";
const DOWNLOAD_MS = 10 * 60_000;

/**
 * Fetches the guest's kernel ahead, so that no first start has to; does nothing where a whole one is there.
 * @param options.stateDir as for `openQemuHypervisor`.
 * @throws FormationError `unavailable` if this is no x86-64 machine, or there is no apt to ask; `cancelled`.
 */
export function fetchKernel(options: {
  stateDir: string;
  signal?: AbortSignal;
  onStep?: (message: string) => void;
}): Promise<Kernel> {
  const { stateDir, signal, onStep } = options;
  return ensureKernel({ directory: kernelDirectory(stateDir), signal, onStep });
}

export function kernelDirectory(stateDir: string): string {
  return join(stateDir, "kernel");
}

/**
 * The kernel to boot: the override, or the one in `directory`, downloaded now if it is not there yet. Two
 * processes may do that at once: the first whole one stays.
 * @throws FormationError `unavailable` if this is no x86-64 machine, or there is no apt to ask.
 */
export async function ensureKernel(options: {
  directory: string;
  override?: KernelOverride | undefined;
  /** For modules that are compressed. Default /bin/busybox. */
  busybox?: string;
  signal?: AbortSignal | undefined;
  onStep?: ((message: string) => void) | undefined;
}): Promise<Kernel> {
  if (process.arch !== "x64") {
    throw new FormationError("unavailable", `Machines run on x86-64 alone; this is ${process.arch}.`, {
      remedy: "Run the worker on an x86-64 machine.",
    });
  }
  if (options.override) return overriddenKernel(options.override);
  const present = storedKernel(options.directory);
  if (present) return present;
  options.onStep?.("Downloading the guest kernel (about 26 MB, once).");
  await download(options.directory, options.busybox ?? "/bin/busybox", options.signal);
  const stored = storedKernel(options.directory);
  if (!stored) throw new FormationError("unavailable", "The downloaded guest kernel vanished again.");
  return stored;
}

/** What is stored, without downloading anything. */
export function storedKernel(directory: string): Kernel | null {
  const home = join(directory, "current");
  try {
    const text = readIfThere(join(home, RECORD));
    if (text === null) return null;
    const record = JSON.parse(text) as KernelRecord;
    if (!isWhole(home, record)) return null;
    const { version, sha256: digest } = record;
    return { image: join(home, "vmlinuz"), modules: join(home, "modules"), version, sha256: digest };
  } catch {
    return null;
  }
}

/** Whether every recorded file has its recorded digest. */
function isWhole(home: string, record: KernelRecord): boolean {
  const files = Object.entries(record.files);
  return (
    record.files["vmlinuz"] === record.sha256 &&
    files.every(([path, digest]) => fileDigest(join(home, path)) === digest)
  );
}

function digests(home: string): Record<string, string> {
  const paths = readdirSync(home, { recursive: true, encoding: "utf8" });
  return Object.fromEntries(
    paths
      .filter((path) => statSync(join(home, path)).isFile())
      .sort()
      .map((path) => [path, fileDigest(join(home, path))]),
  );
}

function overriddenKernel(override: KernelOverride): Kernel {
  if (!existsSync(override.image) || !existsSync(join(override.modules, "kernel"))) {
    throw new FormationError("unavailable", "The configured guest kernel is not there.", {
      remedy: `Look at ${override.image} and ${override.modules}, or unset the kernel option.`,
    });
  }
  return { ...override, sha256: fileDigest(override.image) };
}

async function download(directory: string, busybox: string, signal: AbortSignal | undefined): Promise<void> {
  const work = join(directory, `tmp-${process.pid}-${randomBytes(4).toString("hex")}`);
  mkdirSync(work, { recursive: true, mode: 0o700 });
  sweepUnfinished(directory);
  try {
    const name = await concretePackage(work, signal);
    await apt("apt-get", ["download", name], work, signal);
    const file = readdirSync(work).find((entry) => entry.endsWith(".deb"));
    if (file === undefined) throw noKernel(`apt-get downloaded no file for ${name}.`);
    const unpacked = join(work, "unpacked");
    const result = await run("dpkg-deb", ["-x", file, unpacked], {
      cwd: work,
      timeoutMs: DOWNLOAD_MS,
      ...(signal ? { signal } : {}),
    });
    if (result.code !== 0) throw noKernel(`dpkg-deb: ${lastLine(result.stderr)}`);
    const version = readdirSync(join(unpacked, "lib/modules"))[0];
    if (version === undefined) throw noKernel(`${name} holds no modules.`);
    const whole = join(work, "whole");
    mkdirSync(whole);
    renameSync(join(unpacked, "boot", `vmlinuz-${version}`), join(whole, "vmlinuz"));
    keepModules(join(unpacked, "lib/modules", version), join(whole, "modules"), busybox);
    const files = digests(whole);
    const record: KernelRecord = { version, package: file, sha256: files["vmlinuz"] ?? "", files };
    writeFileAtomic(join(whole, RECORD), `${JSON.stringify(record, null, 2)}\n`, 0o644);
    place(whole, join(directory, "current"));
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Of some hundred megabytes the few that machines load. */
function keepModules(from: string, to: string, busybox: string): void {
  mkdirSync(join(to, "kernel"), { recursive: true });
  for (const { file, data } of packModules(from, [...BOOT_MODULES, ...LATE_MODULES], busybox)) {
    writeFileSync(join(to, "kernel", file), data);
  }
  copyFileSync(join(from, "modules.builtin"), join(to, "modules.builtin"));
}

/** What a process left that was killed while it downloaded. */
function sweepUnfinished(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = /^tmp-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || identify(Number(pid)) !== null) continue;
    rmSync(join(directory, name), { recursive: true, force: true });
  }
}

/** Another process may have been faster; then its kernel stays, unless it is not whole. */
function place(from: string, to: string): void {
  for (let attempt = 0; attempt < 3; attempt++) {
    try {
      renameSync(from, to);
      return;
    } catch {
      if (storedKernel(join(to, ".."))) return;
      rmSync(to, { recursive: true, force: true });
    }
  }
}

async function concretePackage(cwd: string, signal: AbortSignal | undefined): Promise<string> {
  const output = await apt("apt-cache", ["depends", META_PACKAGE], cwd, signal);
  const name = /^\s*\|?Depends:\s+(linux-image-[0-9][a-z0-9.+~-]*)\s*$/m.exec(output)?.[1];
  if (name === undefined) throw noKernel(`apt knows no package behind ${META_PACKAGE}.`);
  return name;
}

async function apt(
  program: string,
  args: readonly string[],
  cwd: string,
  signal: AbortSignal | undefined,
): Promise<string> {
  let result: Awaited<ReturnType<typeof run>>;
  try {
    result = await run(program, args, {
      cwd,
      timeoutMs: DOWNLOAD_MS,
      env: plainEnvironment(),
      ...(signal ? { signal } : {}),
    });
  } catch (error) {
    const known = FormationError.from(error);
    if (known.code === "cancelled") throw known;
    throw noKernel(known.message, error);
  }
  if (result.code !== 0) throw noKernel(`${program}: ${lastLine(result.stderr)}`);
  return result.stdout;
}

function noKernel(why: string, cause?: unknown): FormationError {
  return new FormationError("unavailable", `The guest kernel could not be fetched. ${why}`, {
    remedy:
      `On Debian run \`apt-get update\`, then check that \`apt-get download ${META_PACKAGE}\` works. ` +
      "Elsewhere give a kernel image and its modules in the configuration: FORMATION_KERNEL and FORMATION_KERNEL_MODULES.",
    ...(cause === undefined ? {} : { cause }),
  });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
