// @module-tag root
// @module-tag qemu

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import type { Hypervisor, MachineSpec } from "@formation-mcp/hypervisor";
import { openQemuHypervisor } from "@formation-mcp/hypervisor/qemu";
import { fetchText, leftOf, serving } from "@formation-mcp/hypervisor/testing/conformance";
import { sharedKernel } from "@formation-mcp/hypervisor/testing/kernel";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { leftovers } from "./support/leftovers.ts";
import { makeDisk } from "./support/rootfs.ts";

const MB = 1024 * 1024;
const FILL =
  "printf 'Content-Type: text/plain\\r\\n\\r\\n'; dd if=/dev/zero of=/srv/big bs=1M count=60; sync; echo done";

describe("on a full disk", { timeout: 120_000 }, () => {
  let work: string;
  let small: string;
  let hypervisor: Hypervisor;
  let spec: MachineSpec;
  const { signal } = new AbortController();
  beforeAll(async () => {
    work = mkdtempSync(join(tmpdir(), "hypervisor-"));
    small = mkdtempSync(join(tmpdir(), "hypervisor-"));
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=96m,mode=755", "tmpfs", small]);
    hypervisor = await openQemuHypervisor({ stateDir: join(small, "state"), ...(await sharedKernel()) });
    await hypervisor.recover();
    const script = `mkdir cgi-bin; echo '#!/bin/sh' >cgi-bin/fill; echo "${FILL.replaceAll("\\", "\\\\")}" >>cgi-bin/fill; chmod +x cgi-bin/fill`;
    spec = serving("full.1", makeDisk(work, { "srv/index.html": "the page" }), 8080, script);
  }, 60_000);
  afterAll(async () => {
    for (const { id } of await hypervisor.list()) await hypervisor.remove(id);
    await hypervisor.close();
    execFileSync("umount", [small]);
    for (const path of [work, small]) rmSync(path, { recursive: true, force: true });
  }, 60_000);

  /** Fills or frees the disk until this much of it is free. */
  const leave = (bytes: number) => {
    const ballast = join(small, "ballast");
    rmSync(ballast, { force: true });
    const { bavail, bsize } = statfsSync(small);
    const length = String(bavail * bsize - bytes);
    execFileSync("fallocate", ["--length", length, ballast]);
  };
  const refusal = async (action: Promise<unknown>) => {
    const error = (await action.catch((thrown: unknown) => thrown)) as FormationError;
    expect(error).toBeInstanceOf(FormationError);
    expect(error.code).toBe("unavailable");
    expect(error.details.remedy).toMatch(/[Dd]elete|room/);
    expect(error.message).not.toContain(small);
  };

  it("no machine is made, the refusal names the remedy, and nothing half-made stays", async () => {
    for (const bytes of [0, 8 * 1024, 64 * 1024, 400 * 1024]) {
      leave(bytes);
      await refusal(hypervisor.create(spec));
      expect((await hypervisor.inspect(spec.id)).state).toBe("absent");
      expect(readdirSync(join(small, "state/machines"))).toEqual([]);
    }
  });

  it("a machine does not start, and starts once there is room", async () => {
    leave(10 * MB);
    await hypervisor.create(spec);
    for (const bytes of [0, 2 * MB]) {
      leave(bytes);
      await refusal(hypervisor.start(spec.id, { signal }));
      expect((await hypervisor.inspect(spec.id)).state).toMatch(/^(created|stopped)$/);
    }
    leave(50 * MB);
    await hypervisor.start(spec.id, { signal });
    const status = await hypervisor.waitLive(spec.id, { signal, timeoutMs: 60_000 });
    expect(await fetchText(status.endpoints[0]?.port ?? 0, "/")).toBe("the page");
  });

  it("a guest that needs room is held and says so; resumed, it goes on where it was", async () => {
    leave(4 * MB);
    const port = (await hypervisor.inspect(spec.id)).endpoints[0]?.port ?? 0;
    const filled = fetchText(port, "/cgi-bin/fill", 100_000);
    filled.catch(() => {});
    const held = await waitFor(
      async () => {
        const status = await hypervisor.inspect(spec.id);
        return status.problem !== null && status;
      },
      { timeoutMs: 60_000, what: "the problem to be told" },
    );
    expect(held).toMatchObject({
      state: "running",
      problem: expect.stringMatching(/disk is full/) as string,
    });
    rmSync(join(small, "ballast"));
    await hypervisor.resume(spec.id);
    expect(await filled).toMatch(/done/);
    expect((await hypervisor.inspect(spec.id)).problem).toBe(null);
    expect(await fetchText(port, "/")).toBe("the page");
  });

  it("a machine can be stopped and removed all the same", async () => {
    leave(0);
    await hypervisor.stop(spec.id, { timeoutMs: 5000 });
    expect((await hypervisor.inspect(spec.id)).state).toBe("stopped");
    await hypervisor.remove(spec.id);
    expect(await leftOf({ leftovers: async (dir) => leftovers(dir) }, join(small, "state"))).toEqual([]);
  });
});
