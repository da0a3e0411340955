// One guest kernel for all tests of this package: downloaded once into the system's temporary directory.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureKernel } from "../../src/guest/kernel.ts";

const stateDir = join(tmpdir(), `formation-test-kernel3-${process.getuid?.() ?? 0}`);

export async function sharedKernel() {
  const { image, modules, version } = await ensureKernel({ stateDir });
  return { kernel: { image, modules, version } };
}
