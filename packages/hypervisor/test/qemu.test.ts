// @module-tag root
// @module-tag qemu

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import { describeHypervisor } from "@formation-mcp/hypervisor/testing/conformance";
import { sharedKernel } from "@formation-mcp/hypervisor/testing/kernel";
import { afterAll } from "vitest";
import { leftovers } from "./support/leftovers.ts";
import { makeDisk } from "./support/rootfs.ts";

const disks = mkdtempSync(join(tmpdir(), "hypervisor-disks-"));
afterAll(() => rmSync(disks, { recursive: true, force: true }));

describeHypervisor("the QEMU driver", {
  open: async (stateDir) => openQemuHypervisor({ stateDir, ...(await sharedKernel()) }),
  disk: async (files) => makeDisk(disks, files),
  worker: () => ({
    file: process.execPath,
    args: ["--conditions=formation-source", join(import.meta.dirname, "support/worker.ts"), "qemu"],
  }),
  guestPort: async () => 8080,
  liveTimeoutMs: 40_000,
  leftovers: async (stateDir) => leftovers(stateDir),
  kills: { rounds: 6, withinMs: 9000 },
});
