// The processes of machines, found without any record of them: by their working directory, which is in the
// machine's directory.

import { readdirSync, readlinkSync, realpathSync } from "node:fs";
import { join, sep } from "node:path";
import { identify, type ProcessIdentity, sendSignal, waitForExit } from "@formation-mcp/os";

/**
 * The processes whose working directory is below `root`, by the name of the directory in `root`. See proc(5).
 */
export function processesBelow(root: string): Map<string, ProcessIdentity[]> {
  const found = new Map<string, ProcessIdentity[]>();
  const base = realpathSync(root) + sep;
  for (const entry of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry) || Number(entry) === process.pid) continue;
    let cwd: string;
    try {
      cwd = readlinkSync(join("/proc", entry, "cwd"));
    } catch {
      continue; // It ended, or it is another user's.
    }
    if (!cwd.startsWith(base)) continue;
    const name = cwd.slice(base.length).split(sep)[0] ?? "";
    const identity = identify(Number(entry));
    if (identity) found.set(name, [...(found.get(name) ?? []), identity]);
  }
  return found;
}

/** Kills the processes and waits until they are gone, at most 5 s for each. */
export async function killAll(processes: readonly ProcessIdentity[]): Promise<void> {
  for (const one of processes) sendSignal(one, "SIGKILL");
  for (const one of processes) await waitForExit(one, 5000);
}
