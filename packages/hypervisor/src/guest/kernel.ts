// The kernel that guests boot: the caller's own, else Debian's cloud kernel, downloaded into the state
// directory once and again only if its files are damaged.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { fileDigest } from "./digest.ts";
import { downloadKernel } from "./kernel-download.ts";
import { type Kernel, kernelDirectory, storedKernel } from "./kernel-store.ts";

/** The caller's own kernel. */
export interface KernelOverride {
  /** A bzImage for x86-64. */
  image: string;
  /** The directory of its modules: `…/lib/modules/<version>`. */
  modules: string;
  /** Its release, as `uname -r` prints it. */
  version: string;
}

export interface KernelOptions {
  /** The hypervisor's. */
  stateDir: string;
  /** Boots instead of the stored kernel. */
  override?: KernelOverride | undefined;
  /** Unpacks modules that are compressed. Default /bin/busybox. */
  busybox?: string;
  signal?: AbortSignal | undefined;
  onStep?: ((message: string) => void) | undefined;
}

/**
 * The kernel to boot: the override, or the stored one, which is downloaded if it is missing. Two processes
 * may do that at once: the first complete one stays.
 * @throws FormationError `unavailable` if this is not an x86-64 host or has no apt; `cancelled`.
 */
export async function ensureKernel(options: KernelOptions): Promise<Kernel> {
  if (process.arch !== "x64") {
    throw new FormationError("unavailable", `Machines run on x86-64 alone; this is ${process.arch}.`, {
      remedy: "Run the worker on an x86-64 machine.",
    });
  }
  if (options.override) return overriddenKernel(options.override);
  const directory = kernelDirectory(options.stateDir);
  const present = storedKernel(directory);
  if (present) return present;
  options.onStep?.("Downloading the guest kernel (about 26 MB, once).");
  await downloadKernel(directory, options.busybox ?? "/bin/busybox", options.signal);
  const stored = storedKernel(directory);
  if (!stored) throw new FormationError("unavailable", "The downloaded guest kernel vanished again.");
  return stored;
}

function overriddenKernel(override: KernelOverride): Kernel {
  if (!existsSync(override.image) || !existsSync(join(override.modules, "kernel"))) {
    throw new FormationError("unavailable", "The configured guest kernel is not there.", {
      remedy: `Look at ${override.image} and ${override.modules}, or unset the kernel option.`,
    });
  }
  return { ...override, sha256: fileDigest(override.image) };
}
