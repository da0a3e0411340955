// @module-tag slow

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { describeHypervisor } from "@formation-mcp/hypervisor/testing/conformance";
import { freePort } from "@formation-mcp/os/testing/free-port";
import { afterAll } from "vitest";
import { makeRootfs } from "./support/rootfs.ts";

const disks = mkdtempSync(join(tmpdir(), "hypervisor-disks-"));
const roots: string[] = [];
afterAll(() => {
  for (const path of [disks, ...roots]) rmSync(path, { recursive: true, force: true });
});

describeHypervisor("the fake driver", {
  open: (stateDir) => openFakeHypervisor({ stateDir }),
  disk: async (files) => {
    const rootfs = makeRootfs(files);
    roots.push(rootfs);
    const disk = join(disks, `${roots.length}.json`);
    writeFileSync(disk, JSON.stringify({ rootfs }));
    return disk;
  },
  worker: () => ({
    file: process.execPath,
    args: ["--conditions=formation-source", join(import.meta.dirname, "support/worker.ts"), "fake"],
  }),
  guestPort: freePort,
  liveTimeoutMs: 10_000,
  leftovers: async () => [],
  kills: { rounds: 10, withinMs: 700 },
});
