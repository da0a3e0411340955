// @module-tag root
// @module-tag qemu

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import {
  fetchText,
  leftOf,
  processesIn,
  serving,
  type WorkerOrders,
} from "@formation-mcp/hypervisor/testing/conformance";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { makeDisk } from "./support/rootfs.ts";

/** As root, the tests run as a new account; otherwise as the current one. */
describe("without root", { timeout: 180_000 }, () => {
  const isRoot = userInfo().uid === 0;
  const name = `fm-test-${process.pid}`;
  let work: string;
  let home: string;
  beforeAll(() => {
    work = mkdtempSync(join(tmpdir(), "hypervisor-"));
    chmodSync(work, 0o755);
    home = isRoot ? join(work, "home") : mkdtempSync(join(work, "home-"));
    if (isRoot) execFileSync("useradd", ["--create-home", "--home-dir", home, "--shell", "/bin/sh", name]);
  });
  afterAll(() => {
    if (isRoot) execFileSync("userdel", [name]);
    rmSync(work, { recursive: true, force: true });
  });

  const worker = async (orders: WorkerOrders) => {
    const script = join(import.meta.dirname, "support/worker.ts");
    const command = [
      process.execPath,
      "--conditions=formation-source",
      script,
      "qemu",
      JSON.stringify(orders),
    ];
    const drop = isRoot ? ["setpriv", "--reuid", name, "--regid", name, "--init-groups", "--"] : [];
    const [file = "", ...args] = [...drop, ...command];
    const child = spawn(file, args, {
      cwd: home,
      env: { PATH: process.env["PATH"] ?? "", HOME: home, TMPDIR: home },
      stdio: ["ignore", "pipe", "inherit"],
    });
    await new Promise<void>((resolve, reject) => {
      createInterface({ input: child.stdout }).on("line", (line) => line === "done" && resolve());
      child.once("exit", (code) => reject(new Error(`the worker ended with code ${code}`)));
    });
    const gone = once(child, "exit");
    child.kill("SIGKILL");
    await gone;
  };

  it("a machine runs as the user itself, with a kernel that it fetched itself, and no way out", async () => {
    const stateDir = join(home, "state");
    const disk = makeDisk(work, { "srv/index.html": "the page" });
    chmodSync(join(disk, ".."), 0o755);
    const spec = serving("user.1", disk, 8080);
    await worker({ stateDir, spec, steps: ["create", "start", "live"] });
    const journal = JSON.parse(readFileSync(join(stateDir, "machines/user.1/machine.json"), "utf8")) as {
      qemu: { pid: number };
      forwards: { port: number }[];
      egress: { mode: string; reason: string };
    };
    expect(await fetchText(journal.forwards[0]?.port ?? 0, "/")).toBe("the page");
    expect(journal.egress).toMatchObject({
      mode: "none",
      reason: expect.stringContaining("without root") as string,
    });
    const owner = isRoot
      ? execFileSync("id", ["-u", name], { encoding: "utf8" }).trim()
      : String(userInfo().uid);
    const status = readFileSync(`/proc/${journal.qemu.pid}/status`, "utf8");
    expect(/^Uid:\t(\d+)/m.exec(status)?.[1]).toBe(owner);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    // The guard of a leash runs as the same user and needs no privileges.
    await worker({ stateDir, spec, steps: ["stop", "start", "pause"], leashMs: 4000 });
    expect(existsSync(`/proc/${journal.qemu.pid}/exe`)).toBe(false);
    await waitFor(() => processesIn(stateDir).length === 0, { timeoutMs: 15_000, what: "the leash to end" });
    await worker({ stateDir, spec, steps: ["remove"] });
    expect(await leftOf({ leftovers: async () => [] }, stateDir)).toEqual([]);
  });
});
