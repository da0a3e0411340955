// Process identities: a pid with its start time and the id of the boot, so that a reused pid is not taken for
// the same process.

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

/** A process, distinguishable from a later one with the same pid. */
export interface ProcessIdentity {
  pid: number;
  /** Start time in clock ticks after boot: field 22 of /proc/<pid>/stat (proc(5)). */
  start_ticks: string;
  /** /proc/sys/kernel/random/boot_id, because after a reboot the same pid may start at the same tick. */
  boot_id?: string;
}

/** The identity of a running process; null if there is none or it is a zombie. */
export function identify(pid: number): ProcessIdentity | null {
  const stat = statOf(pid);
  if (!stat) return null;
  const boot = bootId();
  return { pid, start_ticks: stat.startTicks, ...(boot === undefined ? {} : { boot_id: boot }) };
}

/** Whether this process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  const now = identify(identity.pid);
  if (now?.start_ticks !== identity.start_ticks) return false;
  return identity.boot_id === undefined || now.boot_id === identity.boot_id;
}

/**
 * Sends a signal to this process, or with `group` to the process group that it leads. A group without its
 * leader is not signalled, because it cannot be distinguished from a later group.
 * @returns whether the process was there.
 */
export function sendSignal(identity: ProcessIdentity, signal: NodeJS.Signals, group = false): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(group ? -identity.pid : identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Waits until a process has ended. Returns false if the limit passes or the signal aborts before. */
export async function waitForExit(
  identity: ProcessIdentity,
  timeoutMs: number,
  signal?: AbortSignal,
): Promise<boolean> {
  const end = performance.now() + timeoutMs;
  while (isAlive(identity)) {
    if (signal?.aborted || performance.now() > end) return false;
    await delay(20, undefined, signal ? { signal } : {}).catch(() => {});
  }
  return true;
}

/** The pids of a process group, without zombies: their parent may never reap them. */
export function groupMembers(group: number): number[] {
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => statOf(pid)?.group === group);
}

function statOf(pid: number): { group: number; startTicks: string } | null {
  if (!Number.isSafeInteger(pid) || pid <= 0) return null;
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command is in parentheses and may itself contain spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    if (fields[0] === "Z" || fields[0] === "X") return null;
    return { group: Number(fields[2]), startTicks: fields[19] ?? "" };
  } catch {
    return null;
  }
}

let boot: string | undefined;

function bootId(): string | undefined {
  try {
    boot ??= readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    // A sandbox may hide it. Then pid and start time must suffice.
  }
  return boot;
}
