// Settings for tests of programs over PostgreSQL and NATS. `test/shared.ts` starts the services, and the
// programs get the settings from there.

import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { promisify } from "node:util";

const ROOT = dirname(dirname(dirname(import.meta.dirname)));
const given = new Map<string, Promise<Record<string, string>>>();

/** Additional settings for the programs of a state directory; none without FORMATION_TEST_SHARED. */
export function sharedEnvironment(stateDir: string): Promise<Record<string, string>> {
  if (!process.env["FORMATION_TEST_SHARED"]) return Promise.resolve({});
  const known = given.get(stateDir) ?? ask(stateDir);
  given.set(stateDir, known);
  return known;
}

async function ask(stateDir: string): Promise<Record<string, string>> {
  const program = join(ROOT, "test/support/given.ts");
  const { stdout } = await promisify(execFile)(process.execPath, [
    "--conditions=formation-source",
    program,
    stateDir,
  ]);
  return JSON.parse(stdout) as Record<string, string>;
}
