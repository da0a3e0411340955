// The kernel modules that a guest needs: which ones, what they depend on, and their form in the initramfs.

import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";

/** Loaded before the disk is mounted. */
export const BOOT_MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console"];
/** Loaded when the workload runs already: the power button. */
export const LATE_MODULES = ["button", "evdev"];

export interface PackedModule {
  /** Its name for modprobe(8). */
  name: string;
  file: string;
  data: Buffer;
  depends: string[];
}

/** The wanted modules and their dependencies, without those that are built into the kernel. */
export function packModules(directory: string, wanted: readonly string[], busybox: string): PackedModule[] {
  const paths = new Map<string, string>();
  for (const entry of readdirSync(join(directory, "kernel"), { recursive: true, encoding: "utf8" })) {
    const match = /([^/]+)\.ko(\.xz|\.gz|\.zst)?$/.exec(entry);
    if (match?.[1] !== undefined) paths.set(canonical(match[1]), join(directory, "kernel", entry));
  }
  const builtin = new Set<string>();
  for (const line of readFileSync(join(directory, "modules.builtin"), "utf8").split("\n")) {
    const name = /([^/]+)\.ko$/.exec(line)?.[1];
    if (name !== undefined) builtin.add(canonical(name));
  }
  const packed = new Map<string, PackedModule>();
  const add = (name: string) => {
    if (packed.has(name) || builtin.has(name)) return;
    const path = paths.get(name);
    if (path === undefined) {
      throw new FormationError("unavailable", `The guest kernel has no module ${name}.`, {
        remedy:
          "Use Debian's cloud kernel, or one with the virtio drivers for PCI, disk, network and console.",
      });
    }
    const data = withoutSignature(decompressed(path, busybox));
    const depends = dependencies(data);
    for (const other of depends) add(other);
    packed.set(name, { name, file: `${name}.ko`, data, depends });
  };
  for (const name of wanted) add(name);
  return [...packed.values()];
}

/**
 * A modules.dep(5) for modprobe(8): on each line a module and all that must be loaded before it, the direct
 * dependencies first.
 */
export function modulesDep(modules: readonly PackedModule[]): string {
  const byName = new Map(modules.map((module) => [module.name, module]));
  const closure = (name: string, into: Set<string>) => {
    for (const other of byName.get(name)?.depends ?? []) {
      if (!byName.has(other)) continue;
      into.delete(other);
      into.add(other);
      closure(other, into);
    }
    return into;
  };
  return modules
    .map(
      ({ name, file }) =>
        `${file}:${[...closure(name, new Set())].map((other) => ` ${other}.ko`).join("")}\n`,
    )
    .join("");
}

function dependencies(module: Buffer): string[] {
  const at = module.indexOf("\0depends=");
  if (at < 0) return [];
  const end = module.indexOf(0, at + 1);
  const list = module.toString("latin1", at + "\0depends=".length, end);
  return list === "" ? [] : list.split(",").map(canonical);
}

const SIGNATURE_MARK = "~Module signature appended~\n";

/**
 * The guest does not require signed modules, and verifying costs time without KVM. See
 * Documentation/admin-guide/module-signing in the kernel's sources.
 */
function withoutSignature(module: Buffer): Buffer {
  if (!module.subarray(-SIGNATURE_MARK.length).equals(Buffer.from(SIGNATURE_MARK))) return module;
  const tail = SIGNATURE_MARK.length + 12;
  const length = module.readUInt32BE(module.length - SIGNATURE_MARK.length - 4);
  return module.subarray(0, module.length - tail - length);
}

function decompressed(path: string, busybox: string): Buffer {
  const limit = {
    maxBuffer: 64 * 1024 * 1024,
    stdio: ["ignore", "pipe", "ignore"] as ["ignore", "pipe", "ignore"],
  };
  if (path.endsWith(".xz")) return execFileSync(busybox, ["xzcat", path], limit);
  if (path.endsWith(".gz")) return execFileSync(busybox, ["zcat", path], limit);
  if (path.endsWith(".zst")) return execFileSync("zstd", ["-dcq", path], limit);
  return readFileSync(path);
}

function canonical(name: string): string {
  return name.replaceAll("-", "_");
}
