// Which account number a machine runs as, where we are root: one that no process on the host has, whoever started it. Other
// workers with other directories may choose the same numbers; so it is looked at again when a machine runs.

import { chownSync, existsSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Engine } from "./deps.ts";
import { MACHINE_FILES } from "./files.ts";

/** The accounts of all processes but those that were started in `except`. See proc(5): a process's directory is its own. */
function accountsInUse(except?: string): Set<number> {
  const found = new Set<number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry)) continue;
    try {
      const { uid } = statSync(join("/proc", entry));
      if (uid === 0 || found.has(uid)) continue;
      if (except === undefined || readlinkSync(join("/proc", entry, "cwd")) !== except) found.add(uid);
    } catch {
      // gone meanwhile
    }
  }
  return found;
}

/** A number that no machine of ours has and no process runs as; null where machines run as ourselves. */
export function freeAccount(engine: Engine): number | null {
  const { uidBase } = engine.runner;
  if (uidBase === null) return null;
  const used = accountsInUse();
  for (const { journal } of engine.machines.values()) if (journal.uid !== null) used.add(journal.uid);
  for (let uid = uidBase; ; uid++) if (!used.has(uid)) return uid;
}

/** Whether a process that is none of the machine's has its account. */
export function isShared(uid: number | null, runDirectory: string): boolean {
  return uid !== null && accountsInUse(runDirectory).has(uid);
}

const WRITTEN = ["console", "out", "err", "status", "disk"] as const;

/** Makes the account the owner of what its process writes. */
export function handOver(runDirectory: string, uid: number): void {
  for (const path of [...WRITTEN.map((file) => MACHINE_FILES[file]), "ipc"]) {
    const whole = join(runDirectory, path);
    if (existsSync(whole)) chownSync(whole, uid, uid);
  }
}
