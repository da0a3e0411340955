// The settings that the tests of all packages share, and what a test file may say that it needs.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { defineProject, type TestUserConfig } from "vitest/config";

/**
 * What a test file needs beyond Node: it says so with lines `// @module-tag qemu` at its top. `pnpm
 * test:quick` leaves those files out; `--tags-filter` selects by them.
 */
export const TAGS = [
  { name: "root", description: "runs as root: accounts, cgroups, mounts, network namespaces" },
  { name: "buildah", description: "builds images with buildah" },
  { name: "qemu", description: "boots machines with QEMU" },
  { name: "postgres", description: "starts PostgreSQL" },
  { name: "nats", description: "starts NATS" },
  { name: "chromium", description: "drives a real browser" },
  { name: "bundles", description: "runs the built programs or packages" },
  { name: "slow", description: "kills processes or waits many times, for longer than 10 s" },
];

// Every process of this run keeps here what V8 compiled. A program that starts from its TypeScript sources
// takes half the CPU time with it.
if (process.env["NODE_COMPILE_CACHE"] === undefined) {
  const directory = mkdtempSync(join(tmpdir(), "node-compile-"));
  process.env["NODE_COMPILE_CACHE"] = directory;
  process.on("exit", () => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }));
}

/** The tests of one package. Modules are loaded once per process, not once per test file. */
export function project(name: string, test: TestUserConfig = {}) {
  return defineProject({
    resolve: { conditions: ["formation-source"] },
    ssr: { resolve: { conditions: ["formation-source"] } },
    test: {
      name,
      include: ["test/**/*.test.ts"],
      environment: "node",
      isolate: false,
      tags: TAGS,
      testTimeout: 60_000,
      hookTimeout: 60_000,
      ...test,
    },
  });
}
