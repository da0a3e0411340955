// @module-tag qemu

import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import { serving } from "@formation-mcp/hypervisor/testing/conformance";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ensureKernel } from "../src/guest/kernel.ts";
import { fetchInProcess } from "./support/fetch-kernel.ts";

describe("the guest's kernel", { timeout: 120_000 }, () => {
  let stateDir: string;
  beforeAll(() => {
    stateDir = mkdtempSync(join(tmpdir(), "hypervisor-"));
  });
  afterAll(() => rmSync(stateDir, { recursive: true, force: true }));

  it("is fetched by two processes at once, and one whole one stays", async () => {
    const found = await Promise.all([fetchInProcess(stateDir), fetchInProcess(stateDir)]);
    const kernel = await ensureKernel({ stateDir });
    expect(found).toEqual([kernel.sha256, kernel.sha256]);
    expect(readdirSync(join(stateDir, "kernel"))).toEqual(["current"]);
  });

  it("is left alone where it is whole, and fetched again where a bit of it changed", async () => {
    const before = await ensureKernel({ stateDir });
    const { ino } = statSync(before.image);
    await ensureKernel({ stateDir });
    expect(statSync(before.image).ino).toBe(ino);
    for (const harm of [
      (path: string) => {
        const bytes = readFileSync(path);
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 1;
        writeFileSync(path, bytes);
      },
      (path: string) => truncateSync(path, 1000),
    ]) {
      harm(before.image);
      const after = await ensureKernel({ stateDir });
      expect(after.sha256).toBe(before.sha256);
      expect(await fetchInProcess(stateDir)).toBe(before.sha256);
    }
  });

  it("of the configuration must be there", async () => {
    const kernel = { image: "/nowhere/vmlinuz", modules: "/nowhere/modules", version: "6.1.0" };
    const hypervisor = await openQemuHypervisor({ stateDir, kernel });
    try {
      const disk = join(stateDir, "disk.img");
      writeFileSync(disk, "");
      truncateSync(disk, 1024 ** 2);
      await hypervisor.create(serving("kernel.1", disk, 80));
      const starting = hypervisor.start("kernel.1", { signal: new AbortController().signal });
      await expect(starting).rejects.toMatchObject({ code: "unavailable" });
    } finally {
      await hypervisor.remove("kernel.1");
      await hypervisor.close();
    }
  });
});
