// The part of the guest's initramfs that all machines share: busybox, the drivers and our init. It is built
// once for each kernel, busybox and init, and kept under a name that tells them apart.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { writeFileAtomic } from "@formation-mcp/os";
import { type CpioEntry, cpio } from "./cpio.ts";
import { fileDigest } from "./digest.ts";
import { FSTAB_ONE, FSTAB_TWO, GUEST_INIT_VERSION, STAGE_ONE, STAGE_TWO } from "./init.ts";
import { BOOT_MODULES, LATE_MODULES, modulesDep, type PackedModule, packModules } from "./kernel-modules.ts";
import type { Kernel } from "./kernel-store.ts";

export interface InitramfsOptions {
  /** Where the archives are kept. */
  directory: string;
  kernel: Kernel;
  /** The path of a statically linked busybox. */
  busybox: string;
}

/**
 * The path of the archive, built now if it is missing.
 * @throws FormationError `unavailable` without a statically linked busybox.
 */
export function ensureInitramfs({ directory, kernel, busybox }: InitramfsOptions): string {
  const path = join(directory, `${kernel.version}-${contentKey(kernel, busybox)}.cpio`);
  if (existsSync(path)) return path;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileAtomic(path, build(kernel, readBusybox(busybox), busybox));
  return path;
}

/** Differs whenever the archive would. */
function contentKey(kernel: Kernel, busybox: string): string {
  const digest = busyboxDigest(busybox);
  const content = [kernel.version, kernel.sha256, GUEST_INIT_VERSION, STAGE_ONE, STAGE_TWO, digest];
  return createHash("sha256").update(JSON.stringify(content)).digest("hex").slice(0, 16);
}

function build(kernel: Kernel, busybox: Buffer, busyboxPath: string): Buffer {
  const modules = packModules(kernel.modules, [...BOOT_MODULES, ...LATE_MODULES], busyboxPath);
  const late = lateModules(modules);
  const home = `lib/modules/${kernel.version}`;
  return cpio([
    ...["bin", "dev", "proc", "sys", "mnt", "new", "etc", "lib", "lib/modules", home].map((path) => ({
      path,
      mode: 0o755,
    })),
    { path: "init", mode: 0o755, data: Buffer.from(STAGE_ONE) },
    { path: "bin/busybox", mode: 0o777, link: "../fm/busybox" },
    { path: "etc/fstab.1", mode: 0o644, data: Buffer.from(FSTAB_ONE) },
    { path: "etc/fstab.2", mode: 0o644, data: Buffer.from(FSTAB_TWO) },
    ...bootModules(modules, late, home),
    { path: "fm", mode: 0o711 },
    { path: "fm/m", mode: 0o700 },
    { path: "fm/busybox", mode: 0o755, data: busybox },
    { path: "fm/init2", mode: 0o600, data: Buffer.from(STAGE_TWO) },
    {
      path: "fm/modules.late",
      mode: 0o600,
      data: Buffer.from([...late].map((name) => `${name}.ko`).join(" ")),
    },
    ...modules
      .filter(({ name }) => late.has(name))
      .map(({ file, data }) => ({ path: `fm/m/${file}`, mode: 0o600, data })),
  ]);
}

/** What modprobe(8) needs to load the modules before the disk is mounted. */
function bootModules(modules: readonly PackedModule[], late: ReadonlySet<string>, home: string): CpioEntry[] {
  const packed = new Set(modules.map(({ name }) => name));
  const names = BOOT_MODULES.filter((name) => packed.has(name)).join(" ");
  return [
    { path: "etc/modules.boot", mode: 0o644, data: Buffer.from(names) },
    { path: `${home}/modules.dep`, mode: 0o644, data: Buffer.from(modulesDep(modules)) },
    ...modules
      .filter(({ name }) => !late.has(name))
      .map(({ file, data }) => ({ path: `${home}/${file}`, mode: 0o644, data })),
  ];
}

/** The late modules, and what they need that the boot modules do not, in loading order. */
function lateModules(modules: readonly PackedModule[]): Set<string> {
  const boot = withDependencies(BOOT_MODULES, modules, new Set());
  return withDependencies(LATE_MODULES, modules, boot);
}

function withDependencies(
  names: readonly string[],
  modules: readonly PackedModule[],
  loaded: ReadonlySet<string>,
): Set<string> {
  const found = new Set<string>();
  const add = (name: string) => {
    const module = modules.find((one) => one.name === name);
    if (module === undefined || loaded.has(name)) return;
    for (const other of module.depends) add(other);
    found.add(name);
  };
  for (const name of names) add(name);
  return found;
}

function readBusybox(path: string): Buffer {
  const bytes = readFileSync(path);
  if (!needsInterpreter(bytes)) return bytes;
  throw new FormationError("unavailable", `${path} is not linked statically.`, {
    remedy: "Install busybox-static.",
  });
}

function busyboxDigest(path: string): string {
  try {
    return fileDigest(path);
  } catch (cause) {
    throw new FormationError("unavailable", `There is no busybox at ${path}.`, {
      remedy: "Install busybox-static.",
      cause,
    });
  }
}

/** Whether an ELF file has a program header PT_INTERP: then it needs a dynamic linker. See elf(5). */
function needsInterpreter(elf: Buffer): boolean {
  const [table, size, count] = [
    Number(elf.readBigUInt64LE(0x20)),
    elf.readUInt16LE(0x36),
    elf.readUInt16LE(0x38),
  ];
  for (let at = 0; at < count; at++) if (elf.readUInt32LE(table + at * size) === 3) return true;
  return false;
}
