// Downloads the guest's kernel in a process of its own, for tests of several downloads at once. Run as a
// program, this file does the download into the state directory that is its argument.

import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ensureKernel } from "../../src/guest/kernel.ts";

/** The digest of the kernel that the process ended up with. */
export async function fetchInProcess(stateDir: string): Promise<string> {
  const args = ["--conditions=formation-source", import.meta.filename, stateDir];
  return (await promisify(execFile)(process.execPath, args)).stdout;
}

if (process.argv[1] === import.meta.filename) {
  process.stdout.write((await ensureKernel({ stateDir: process.argv[2] ?? "" })).sha256);
}
