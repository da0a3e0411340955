// Downloading Debian's cloud kernel: apt fetches the package as an ordinary user and checks it against the
// archive's signature, and dpkg-deb unpacks it. Nothing is installed on the host.

import { randomBytes } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { identify, plainEnvironment, run } from "@formation-mcp/os";
import { BOOT_MODULES, LATE_MODULES, packModules } from "./kernel-modules.ts";
import { IMAGE_FILE, MODULES_DIRECTORY, storeKernel } from "./kernel-store.ts";

const META_PACKAGE = "linux-image-cloud-amd64";
const DOWNLOAD_MS = 10 * 60_000;

/**
 * Downloads the kernel into the store in `directory`.
 * @param busybox Unpacks modules that are compressed.
 * @throws FormationError `unavailable` with what to do; `cancelled`.
 */
export async function downloadKernel(
  directory: string,
  busybox: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const work = join(directory, `tmp-${process.pid}-${randomBytes(4).toString("hex")}`);
  mkdirSync(work, { recursive: true, mode: 0o700 });
  sweepUnfinished(directory);
  try {
    const name = await resolveMetaPackage(work, signal);
    const file = await downloadPackage(name, work, signal);
    const unpacked = join(work, "unpacked");
    await unpack(file, unpacked, work, signal);
    const version = readdirSync(join(unpacked, "lib/modules"))[0];
    if (version === undefined) throw noKernel(`${name} holds no modules.`);
    const kernel = join(work, "whole");
    mkdirSync(kernel);
    renameSync(join(unpacked, "boot", `vmlinuz-${version}`), join(kernel, IMAGE_FILE));
    keepModules(join(unpacked, "lib/modules", version), join(kernel, MODULES_DIRECTORY), busybox);
    storeKernel(kernel, directory, { version, package: file });
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Removes the files of downloads whose process died. */
function sweepUnfinished(directory: string): void {
  for (const name of readdirSync(directory)) {
    const pid = /^tmp-(\d+)-/.exec(name)?.[1];
    if (pid === undefined || identify(Number(pid)) !== null) continue;
    rmSync(join(directory, name), { recursive: true, force: true });
  }
}

/** The name of the package that the meta package depends on. */
async function resolveMetaPackage(cwd: string, signal: AbortSignal | undefined): Promise<string> {
  const output = await apt("apt-cache", ["depends", META_PACKAGE], cwd, signal);
  const name = /^\s*\|?Depends:\s+(linux-image-[0-9][a-z0-9.+~-]*)\s*$/m.exec(output)?.[1];
  if (name === undefined) throw noKernel(`apt knows no package behind ${META_PACKAGE}.`);
  return name;
}

/** Resolves with the name of the file, in `cwd`. */
async function downloadPackage(name: string, cwd: string, signal: AbortSignal | undefined): Promise<string> {
  await apt("apt-get", ["download", name], cwd, signal);
  const file = readdirSync(cwd).find((entry) => entry.endsWith(".deb"));
  if (file === undefined) throw noKernel(`apt-get downloaded no file for ${name}.`);
  return file;
}

async function unpack(file: string, to: string, cwd: string, signal: AbortSignal | undefined): Promise<void> {
  const result = await run("dpkg-deb", ["-x", file, to], {
    cwd,
    timeoutMs: DOWNLOAD_MS,
    ...(signal ? { signal } : {}),
  });
  if (result.code !== 0) throw noKernel(`dpkg-deb: ${lastLine(result.stderr)}`);
}

/** Copies the modules that guests load: a few of some hundred megabytes. */
function keepModules(from: string, to: string, busybox: string): void {
  mkdirSync(join(to, "kernel"), { recursive: true });
  for (const { file, data } of packModules(from, [...BOOT_MODULES, ...LATE_MODULES], busybox)) {
    writeFileSync(join(to, "kernel", file), data);
  }
  copyFileSync(join(from, "modules.builtin"), join(to, "modules.builtin"));
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
      "Elsewhere give a kernel image and its modules in the configuration: " +
      "FORMATION_KERNEL and FORMATION_KERNEL_MODULES.",
    ...(cause === undefined ? {} : { cause }),
  });
}

function lastLine(text: string): string {
  return text.trim().split("\n").at(-1) ?? "";
}
