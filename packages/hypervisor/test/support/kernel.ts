// One guest kernel for all tests of this package: downloaded once into the system's temporary directory.

import { tmpdir } from "node:os";
import { join } from "node:path";
import { ensureKernel } from "../../src/kernel.ts";

const directory = join(tmpdir(), `formation-test-kernel2-${process.getuid?.() ?? 0}`);

export async function sharedKernel() {
  const { image, modules, version } = await ensureKernel({ directory });
  return { kernel: { image, modules, version } };
}
