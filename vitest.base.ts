// The settings that the tests of all packages share, and what a test file may say that it needs.

import { rmSync } from "node:fs";
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
  { name: "slow", description: "starts or kills many processes, or waits for more than 10 s" },
];

// Every process of a run keeps here what V8 compiled, and the next run begins anew. A program that starts
// from its TypeScript sources takes half the CPU time with it.
if (process.env["NODE_COMPILE_CACHE"] === undefined) {
  const directory = join(import.meta.dirname, "node_modules/.cache/compiled");
  rmSync(directory, { recursive: true, force: true });
  process.env["NODE_COMPILE_CACHE"] = directory;
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
