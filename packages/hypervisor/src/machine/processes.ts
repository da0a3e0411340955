// Which processes belong to a machine, found without any record of them: they are started in the machine's directory.

import { readdirSync, readlinkSync, realpathSync } from "node:fs";
import { join, sep } from "node:path";
import { identify, type ProcessIdentity, sendSignal, waitGone } from "@formation-mcp/os";

/** All processes whose working directory lies below `root`, by the first name below it. */
export function processesBelow(root: string): Map<string, ProcessIdentity[]> {
  const found = new Map<string, ProcessIdentity[]>();
  const base = realpathSync(root) + sep;
  for (const entry of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry) || Number(entry) === process.pid) continue;
    let cwd: string;
    try {
      cwd = readlinkSync(join("/proc", entry, "cwd"));
    } catch {
      continue; // gone, or somebody else's
    }
    if (!cwd.startsWith(base)) continue;
    const name = cwd.slice(base.length).split(sep)[0] ?? "";
    const identity = identify(Number(entry));
    if (identity) found.set(name, [...(found.get(name) ?? []), identity]);
  }
  return found;
}

/** Kills and waits until they are gone. */
export async function killAll(processes: readonly ProcessIdentity[]): Promise<void> {
  for (const one of processes) sendSignal(one, "SIGKILL");
  for (const one of processes) await waitGone(one, 5000);
}
