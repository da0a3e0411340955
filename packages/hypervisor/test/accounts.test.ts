// @module-tag root

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Hypervisor } from "@formation-mcp/hypervisor";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import { serving } from "@formation-mcp/hypervisor/testing/conformance";
import { sharedKernel } from "@formation-mcp/hypervisor/testing/kernel";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { leftovers } from "./support/leftovers.ts";
import { makeDisk } from "./support/rootfs.ts";

describe("two workers on one host", { timeout: 120_000 }, () => {
  let work: string;
  let disk: string;
  const workers: Hypervisor[] = [];
  const directory = (at: number) => join(work, `state${at}`);
  const { signal } = new AbortController();
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "hypervisor-"));
    disk = makeDisk(work, {});
    const uidBase = 1_900_000_000 + process.pid;
    for (const at of [0, 1]) {
      const hypervisor = await openQemuHypervisor({
        stateDir: directory(at),
        uidBase,
        ...(await sharedKernel()),
      });
      await hypervisor.recover();
      workers.push(hypervisor);
    }
  }, 60_000);
  afterAll(async () => {
    for (const [at, hypervisor] of workers.entries()) {
      for (const { id } of await hypervisor.list()) await hypervisor.remove(id);
      await hypervisor.close();
      expect(leftovers(directory(at))).toEqual([]);
    }
    rmSync(work, { recursive: true, force: true });
  }, 60_000);
  const account = (pid: number | null) =>
    /^Uid:\t(\d+)\t\1\t\1/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1];

  it("never run two machines as the same account, though both were told the same numbers", async () => {
    const specs = workers.map((_, at) => ({ ...serving(`acc.${at}`, disk, 80), egress: false }));
    for (const [at, hypervisor] of workers.entries()) {
      const spec = specs[at];
      if (spec) await hypervisor.create(spec);
    }
    const start = async (at: number) => (await workers[at]?.start(`acc.${at}`, { signal }))?.pid ?? null;
    const pids = await Promise.all([start(0), start(1)]);
    const accounts = pids.map(account);
    expect(new Set(accounts).size).toBe(2);
    expect(accounts).not.toContain(undefined);
  });

  it("each keep a guest without internet from opening connections in the packet filter too", async () => {
    for (const [at, hypervisor] of workers.entries()) {
      const { pid, unenforced } = await hypervisor.inspect(`acc.${at}`);
      expect(unenforced).toBe(undefined);
      const rules = leftovers(directory(at)).filter((rule) => rule.includes(`--uid-owner ${account(pid)} `));
      expect(rules.length).toBeGreaterThan(0);
      for (const rule of rules) expect(rule).toMatch(/-j FM-[0-9a-f]+-NONE$/);
    }
  });
});
