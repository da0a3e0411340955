// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// The cluster example of the README as printed, run without the capabilities that the unit of the worker
// drops.

import { execFile } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../support/server.ts";

const UNIT = readFileSync(join(ROOT, "deploy/systemd/formation-mcp-worker.service"), "utf8");

/** Drops the capabilities as the unit does, if this process is root. */
function confined(): string[] {
  if (process.getuid?.() !== 0) return [];
  const [, names = ""] = /^CapabilityBoundingSet=~(.*)$/m.exec(UNIT) ?? [];
  const less = names.split(" ").map((name) => `-${name.replace(/^CAP_/, "").toLowerCase()}`);
  expect(less.length).toBeGreaterThan(5);
  return ["setpriv", "--no-new-privs", "--bounding-set", less.join(",")];
}

test("the cluster runs the main job on two nodes and leaves nothing, also as its unit confines it", async () => {
  const before = readdirSync(tmpdir()).filter((name) => name.startsWith("fc-"));
  const [file = "", ...args] = [...confined(), process.execPath, join(ROOT, "examples/cluster.ts")];
  const { stdout } = await promisify(execFile)(file, args, { timeout: 230_000 });
  expect(stdout).toContain("<h1>Hello from a VM</h1>");
  expect(stdout).toMatch(/hello runs on node-\d/);
  expect(stdout).toMatch(/hello-again runs on node-\d/);
  expect(stdout).toContain("nothing is left");
  const own = / at http:\/\/127\.0\.0\.1:(\d+)/.exec(stdout)?.[1];
  await expect(fetch(`http://127.0.0.1:${own}/health/live`)).rejects.toThrow();
  const after = readdirSync(tmpdir()).filter((name) => name.startsWith("fc-"));
  expect(after.filter((name) => !before.includes(name) && !isOthers(name))).toEqual([]);
});

/** The cluster of another test that runs at the same time. */
function isOthers(name: string): boolean {
  return readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .some((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(`/${name}/`);
      } catch {
        return false;
      }
    });
}
