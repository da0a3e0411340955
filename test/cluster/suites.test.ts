// @module-tag root
// @module-tag postgres
// @module-tag nats
// @module-tag bundles

// The test suites of a single machine, run over PostgreSQL and NATS as `test:shared` does. Every run plays a
// few of their tests, to check that this works.

import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../support/programs.ts";

const SHARED = ["--conditions=formation-source", join(ROOT, "test/shared.ts")];
const VITEST = [process.execPath, join(ROOT, "node_modules/vitest/vitest.mjs"), "run", "--project", "system"];
/** The settings of this test process do not apply to the tests that it starts. */
const ours = (name: string) => /^(VITEST|VITE_|TEST|DEV|PROD|MODE|BASE_URL|NODE_ENV|NODE_OPTIONS)/.test(name);

test("stdio servers and HTTP servers find each other's work over PostgreSQL and NATS", async () => {
  const dir = mkdtempSync(join(tmpdir(), "formation-suites-"));
  try {
    const report = join(dir, "report.json");
    const chosen = ["-t", "many servers share|known to the other|a server that is killed"];
    const files = ["e2e/local-mode", "http/two-servers"];
    const how = ["--retry", "0", "--reporter", "json", "--outputFile", report];
    await promisify(execFile)(process.execPath, [...SHARED, ...VITEST, ...how, ...chosen, ...files], {
      cwd: ROOT,
      maxBuffer: 64 * 1024 * 1024,
      env: Object.fromEntries(Object.entries(process.env).filter(([name]) => !ours(name))),
    });
    expect(JSON.parse(readFileSync(report, "utf8"))).toMatchObject({
      success: true,
      numPassedTests: 3,
      numFailedTests: 0,
    });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});
