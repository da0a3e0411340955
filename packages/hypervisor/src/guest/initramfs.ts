// The part of the guest's initramfs that all machines share: busybox, the drivers, our init. Made once for
// each kernel, busybox and init, and kept under a name that says which.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { writeFileAtomic } from "@formation-mcp/os";
import { cpio } from "./cpio.ts";
import { fileDigest } from "./digest.ts";
import { FSTAB_ONE, FSTAB_TWO, GUEST_INIT_VERSION, STAGE_ONE, STAGE_TWO } from "./init.ts";
import type { Kernel } from "./kernel.ts";
import { BOOT_MODULES, LATE_MODULES, modulesDep, packModules } from "./kernel-modules.ts";

/**
 * The path of the common archive, made now if need be.
 * @throws FormationError `unavailable` without a static busybox.
 */
export function ensureInitramfs(options: { directory: string; kernel: Kernel; busybox: string }): string {
  const key = createHash("sha256")
    .update(
      JSON.stringify([
        options.kernel.version,
        options.kernel.sha256,
        GUEST_INIT_VERSION,
        STAGE_ONE,
        STAGE_TWO,
        busyboxDigest(options.busybox),
      ]),
    )
    .digest("hex")
    .slice(0, 16);
  const path = join(options.directory, `${options.kernel.version}-${key}.cpio`);
  if (existsSync(path)) return path;
  mkdirSync(options.directory, { recursive: true, mode: 0o700 });
  writeFileAtomic(path, build(options.kernel, readBusybox(options.busybox), options.busybox));
  return path;
}

function build(kernel: Kernel, busybox: Buffer, busyboxPath: string): Buffer {
  const modules = packModules(kernel.modules, [...BOOT_MODULES, ...LATE_MODULES], busyboxPath);
  const packed = new Set(modules.map(({ name }) => name));
  const home = `lib/modules/${kernel.version}`;
  const late = closureOf(LATE_MODULES, modules);
  const text = (content: string) => Buffer.from(content);
  return cpio([
    ...["bin", "dev", "proc", "sys", "mnt", "new", "etc", "lib", "lib/modules", home].map((path) => ({
      path,
      mode: 0o755,
    })),
    { path: "init", mode: 0o755, data: text(STAGE_ONE) },
    { path: "bin/busybox", mode: 0o777, link: "../fm/busybox" },
    { path: "etc/fstab.1", mode: 0o644, data: text(FSTAB_ONE) },
    { path: "etc/fstab.2", mode: 0o644, data: text(FSTAB_TWO) },
    {
      path: "etc/modules.boot",
      mode: 0o644,
      data: text(BOOT_MODULES.filter((name) => packed.has(name)).join(" ")),
    },
    { path: `${home}/modules.dep`, mode: 0o644, data: text(modulesDep(modules)) },
    ...modules
      .filter(({ name }) => !late.has(name))
      .map(({ file, data }) => ({ path: `${home}/${file}`, mode: 0o644, data })),
    { path: "fm", mode: 0o711 },
    { path: "fm/m", mode: 0o700 },
    { path: "fm/busybox", mode: 0o755, data: busybox },
    { path: "fm/init2", mode: 0o600, data: text(STAGE_TWO) },
    { path: "fm/modules.late", mode: 0o600, data: text([...late].map((name) => `${name}.ko`).join(" ")) },
    ...modules
      .filter(({ name }) => late.has(name))
      .map(({ file, data }) => ({ path: `fm/m/${file}`, mode: 0o600, data })),
  ]);
}

/** These and what they need that the boot modules do not, in loading order. */
function closureOf(names: readonly string[], modules: ReturnType<typeof packModules>): Set<string> {
  const boot = new Set<string>();
  const mark = (name: string, into: Set<string>) => {
    const module = modules.find((one) => one.name === name);
    if (module === undefined || boot.has(name)) return;
    for (const other of module.depends) mark(other, into);
    into.add(name);
  };
  const booted = new Set<string>();
  for (const name of BOOT_MODULES) mark(name, booted);
  for (const name of booted) boot.add(name);
  const late = new Set<string>();
  for (const name of names) mark(name, late);
  return late;
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

/** Whether an ELF file has a PT_INTERP header: then it needs a dynamic linker, see elf(5). */
function needsInterpreter(elf: Buffer): boolean {
  const [table, size, count] = [
    Number(elf.readBigUInt64LE(0x20)),
    elf.readUInt16LE(0x36),
    elf.readUInt16LE(0x38),
  ];
  for (let at = 0; at < count; at++) if (elf.readUInt32LE(table + at * size) === 3) return true;
  return false;
}
