// This folder makes, runs, watches and removes machines, the same way for every driver. It is where the
// journal, the leash and the recovery after a crash are. This file chooses the account number (uid) of a
// machine when the worker is root: one that no process on the host has. Another worker may choose the same
// number at the same time, so a start checks it again.

import { chownSync, existsSync, readdirSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { HypervisorDeps } from "./deps.ts";
import { IPC_DIRECTORY, MACHINE_FILES } from "./files.ts";

/** The uids of all processes, without those whose working directory is `except`. See proc(5). */
function uidsInUse(except?: string): Set<number> {
  const found = new Set<number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry)) continue;
    try {
      const { uid } = statSync(join("/proc", entry));
      if (uid === 0 || found.has(uid)) continue;
      if (except === undefined || readlinkSync(join("/proc", entry, "cwd")) !== except) found.add(uid);
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}

/**
 * A uid that no known machine has and no process runs as; null where machines run as the worker's account.
 */
export function freeAccount(deps: HypervisorDeps): number | null {
  const { uidBase } = deps.driver;
  if (uidBase === null) return null;
  const used = uidsInUse();
  for (const { journal } of deps.machines.values()) if (journal.uid !== null) used.add(journal.uid);
  for (let uid = uidBase; ; uid++) if (!used.has(uid)) return uid;
}

/** Whether a process that is not the machine's runs as the machine's account. */
export function isShared(uid: number | null, runDirectory: string): boolean {
  return uid !== null && uidsInUse(runDirectory).has(uid);
}

/** The files that a machine's process writes. */
const WRITTEN_FILES = ["console", "out", "err", "status", "disk"] as const;

/** Makes the account the owner of the files that its process writes. */
export function handOver(runDirectory: string, uid: number): void {
  for (const path of [...WRITTEN_FILES.map((file) => MACHINE_FILES[file]), IPC_DIRECTORY]) {
    const whole = join(runDirectory, path);
    if (existsSync(whole)) chownSync(whole, uid, uid);
  }
}
