// The stored kernel of guests: a directory with its image, its modules and a record of their digests. The
// digests are compared once per process.

import { readdirSync, renameSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { readFileIfPresent, writeFileAtomic } from "@formation-mcp/os";
import { fileDigest } from "./digest.ts";

/** A kernel that is there. */
export interface Kernel {
  /** The path of a bzImage for x86-64. */
  image: string;
  /** The directory of its modules. */
  modules: string;
  /** Its release, as `uname -r` prints it. */
  version: string;
  /** Of the image, in hexadecimal. */
  sha256: string;
}

interface KernelRecord {
  version: string;
  /** The file name of the Debian package. */
  package: string;
  sha256: string;
  /** The SHA-256 of every file, by its path below the kernel's directory. */
  files: Record<string, string>;
}

const RECORD_FILE = "kernel.json";
const MAX_ATTEMPTS = 3;

/** The names in a kernel's directory. */
export const IMAGE_FILE = "vmlinuz";
export const MODULES_DIRECTORY = "modules";

export function kernelDirectory(stateDir: string): string {
  return join(stateDir, "kernel");
}

/** The kernel stored in `directory`; null if there is none, or if a file differs from its recorded digest. */
export function storedKernel(directory: string): Kernel | null {
  const home = join(directory, "current");
  try {
    const text = readFileIfPresent(join(home, RECORD_FILE));
    if (text === null) return null;
    const record = JSON.parse(text) as KernelRecord;
    if (!isWhole(home, record)) return null;
    const { version, sha256 } = record;
    return { image: join(home, IMAGE_FILE), modules: join(home, MODULES_DIRECTORY), version, sha256 };
  } catch {
    return null;
  }
}

/**
 * Records the digests of the kernel in `from`, then renames it into the store. If another process was
 * faster, its kernel stays.
 */
export function storeKernel(
  from: string,
  directory: string,
  about: { version: string; package: string },
): void {
  const files = digests(from);
  const record: KernelRecord = { ...about, sha256: files[IMAGE_FILE] ?? "", files };
  writeFileAtomic(join(from, RECORD_FILE), `${JSON.stringify(record, null, 2)}\n`, 0o644);
  const home = join(directory, "current");
  for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
    try {
      renameSync(from, home);
      return;
    } catch {
      if (storedKernel(directory)) return;
      rmSync(home, { recursive: true, force: true });
    }
  }
}

function isWhole(home: string, record: KernelRecord): boolean {
  const files = Object.entries(record.files);
  return (
    record.files[IMAGE_FILE] === record.sha256 &&
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
