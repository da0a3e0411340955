// One guest kernel for all tests that boot machines: downloaded once into the system's temporary directory.

import { cpSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureKernel } from "../src/guest/kernel.ts";
import { kernelDirectory } from "../src/guest/kernel-store.ts";

const stateDir = join(tmpdir(), `formation-test-kernel3-${process.getuid?.() ?? 0}`);

/** The option that has the QEMU driver boot the shared kernel. */
export async function sharedKernel() {
  const { image, modules, version } = await ensureKernel({ stateDir });
  return { kernel: { image, modules, version } };
}

/** Copies the shared kernel into a hypervisor's state directory, whose driver then downloads none. */
export async function copyKernelTo(hypervisorStateDir: string): Promise<void> {
  await ensureKernel({ stateDir });
  const home = (directory: string) => join(kernelDirectory(directory), "current");
  cpSync(home(stateDir), home(hypervisorStateDir), { recursive: true });
}
