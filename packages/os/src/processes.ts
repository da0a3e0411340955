// How we know that a process is still the one we started: its pid together with its start time and the boot it belongs to.

import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";

/** A process that can be told from a later one with the same pid. */
export interface ProcessIdentity {
  pid: number;
  /** Field 22 of /proc/<pid>/stat: clock ticks after boot (proc(5)). */
  start_ticks: string;
  /** /proc/sys/kernel/random/boot_id: after a reboot the same pid may start at the same tick. */
  boot_id?: string;
}

/** The identity of a living process, or null. A zombie is not alive. */
export function identify(pid: number): ProcessIdentity | null {
  const stat = statOf(pid);
  if (!stat) return null;
  const boot = bootId();
  return { pid, start_ticks: stat.startTicks, ...(boot === undefined ? {} : { boot_id: boot }) };
}

/** Whether exactly this process still runs. */
export function isAlive(identity: ProcessIdentity): boolean {
  const now = identify(identity.pid);
  if (now?.start_ticks !== identity.start_ticks) return false;
  return identity.boot_id === undefined || now.boot_id === identity.boot_id;
}

/**
 * Sends a signal to exactly this process; with `group` to the process group it leads. Returns whether it was there: a
 * group whose leader is gone is not signalled, because nothing tells it from a later one.
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

/** Waits until a process is gone. Returns whether it went within the limit and before the signal aborted. */
export async function waitGone(
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

/** The living processes of a process group. Zombies are none: whoever should reap them may never do so. */
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
    // The command stands in parentheses and may hold anything, spaces and parentheses too.
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
    // A sandbox may hide it; pid and start time have to do then.
  }
  return boot;
}
