// Builds the program once for all tests of this project, into a directory of its own, so that the tests run
// what users run and never an older build.

import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { TestProject } from "vitest/node";

declare module "vitest" {
  interface ProvidedContext {
    /** The directory with `formation-mcp.mjs`. */
    bundle: string;
  }
}

const APP = dirname(import.meta.dirname);

export async function setup(project: TestProject): Promise<() => void> {
  const directory = mkdtempSync(join(tmpdir(), "formation-bundle-"));
  const tsup = join(dirname(dirname(APP)), "node_modules/tsup/dist/cli-default.js");
  await promisify(execFile)(process.execPath, [tsup, "--out-dir", directory], { cwd: APP });
  project.provide("bundle", directory);
  return () => rmSync(directory, { recursive: true, force: true });
}
