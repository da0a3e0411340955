// The programs that tests start, and the command of each.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { baseEnvironment } from "@formation-mcp/os/testing/base-environment";

export const ROOT = dirname(dirname(import.meta.dirname));

/** Tests use the bundled program; FORMATION_TEST_SOURCE=1 uses the sources, which need no build. */
const BUNDLE = join(ROOT, "apps/http/dist/formation-mcp-http.mjs");
const SOURCE = join(ROOT, "apps/http/src/main.ts");

/** The command that runs the HTTP server. */
export function httpCommand(args: string[]): string[] {
  const fromSource = process.env["FORMATION_TEST_SOURCE"] === "1";
  if (!fromSource && !existsSync(BUNDLE)) {
    throw new Error(`${BUNDLE} is not there: build it first, or set FORMATION_TEST_SOURCE=1.`);
  }
  return fromSource ? ["--conditions=formation-source", SOURCE, ...args] : [BUNDLE, ...args];
}

/** Makes the tables and the streams for these settings. */
export async function migrate(settings: Record<string, string>): Promise<void> {
  await promisify(execFile)(process.execPath, httpCommand(["migrate"]), {
    env: { ...baseEnvironment(), ...settings },
  });
}
