// A process of its own that fetches the guest's kernel, for tests of several at once. Run as a program it fetches; its last
// argument is the state directory.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { fetchKernel } from "../../src/guest/kernel.ts";

/** The digest of the kernel that the process found in the end. */
export async function fetchInProcess(stateDir: string): Promise<string> {
  const args = ["--conditions=formation-source", import.meta.filename, stateDir];
  return (await promisify(execFile)(process.execPath, args)).stdout;
}

if (process.argv[1] === import.meta.filename) {
  process.stdout.write((await fetchKernel({ stateDir: process.argv[2] ?? "" })).sha256);
}
