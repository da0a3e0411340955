// A build's limits on cgroup v2, with a plain directory in place of the hierarchy: the machines that run this
// suite have v1.

import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { describe, expect, it } from "vitest";
import { BuildCgroup, describeCgroups } from "../src/build-cgroup.ts";
import { temporary } from "./support/build.ts";

const LIMITS = { memory_mb: 100, vcpus: 2, pids: 50, disk_bytes: 1, timeout_ms: 1 };

describe("a build's cgroup on v2", () => {
  it("is bounded in memory, swap, cpu and processes, with the controllers passed down", () => {
    using root = temporary();
    writeFileSync(join(root.path, "cgroup.controllers"), "cpu io memory pids\n");
    mkdirSync(join(root.path, "formation/mark/b.1"), { recursive: true });
    writeFileSync(join(root.path, "formation/mark/b.1/memory.swap.max"), "max");
    const group = new BuildCgroup(root.path, "mark", "b.1", LIMITS);
    group.create();
    const read = (path: string) => readFileSync(join(root.path, path), "utf8");
    for (const path of ["", "formation", "formation/mark", "formation/mark/b.1"]) {
      expect(read(join(path, "cgroup.subtree_control"))).toBe("+cpu +memory +pids");
    }
    expect(read("formation/mark/b.1/memory.max")).toBe(String(100 * 1024 * 1024));
    expect(read("formation/mark/b.1/memory.swap.max")).toBe("0");
    expect(read("formation/mark/b.1/cpu.max")).toBe("200000 100000");
    expect(read("formation/mark/b.1/pids.max")).toBe("50");
    expect(group.forContainers).toBe("/formation/mark/b.1/run");
    writeFileSync(join(root.path, "formation/mark/b.1/memory.events"), "low 0\nmax 7\noom 1\noom_kill 1\n");
    writeFileSync(join(root.path, "formation/mark/b.1/pids.events"), "max 3\n");
    writeFileSync(join(root.path, "formation/mark/b.1/pids.peak"), "50\n");
    expect(group.sample()).toMatchObject({ oomKills: 1, memoryHits: 7, forksRefused: 3, mostProcesses: 50 });
    expect(describeCgroups(root.path)).toEqual({ version: "v2", controllers: ["cpu", "memory", "pids"] });
  });

  it("refuses the build where it cannot be made", () => {
    using root = temporary();
    writeFileSync(join(root.path, "cgroup.controllers"), "cpu memory pids\n");
    writeFileSync(join(root.path, "formation"), "in the way");
    const group = new BuildCgroup(root.path, "mark", "b.1", LIMITS);
    expect(() => group.create()).toThrow(FormationError);
    rmSync(join(root.path, "formation"));
    expect(existsSync(join(root.path, "formation"))).toBe(false);
  });
});
