// A machine's leash: a file beside its journal that says when the machine ends, in time since the host's
// boot. A guard process reads it and kills the machine then. A machine without the file has no leash. Only
// the worker's account may write the file.

import { existsSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type ProcessIdentity, readFileIfPresent, sendSignal, uptimeMs, waitFor } from "@formation-mcp/os";
import { GUARD_FILE, LEASH_FILE } from "./files.ts";

/** How long a guard may take to leave once its leash is gone. */
const GUARD_EXIT_MS = 5000;

/** The leash of a start that is under way. It can be prolonged and released before there is a process. */
export interface PendingLeash {
  id: string;
  /** When it ends, in milliseconds since the host's boot; null once it was released. */
  until: number | null;
}

export interface Leashes {
  /** The leash of a start that begins now; give it to `forget` when the start is over. */
  begin(id: string, leashMs: number): PendingLeash;
  forget(leash: PendingLeash): void;
  /** Moves the end to `leashMs` from now; does nothing for a machine without a leash. */
  prolong(id: string, leashMs: number): void;
  /** Removes the leash; resolves when its guard is gone. */
  release(id: string): Promise<void>;
}

/** @param runDirectoryOf The run directory of a machine; it need not exist. */
export function createLeashes(runDirectoryOf: (id: string) => string): Leashes {
  const pending = new Set<PendingLeash>();
  return {
    begin(id, leashMs) {
      const leash = { id, until: uptimeMs() + leashMs };
      pending.add(leash);
      return leash;
    },
    forget: (leash) => void pending.delete(leash),
    prolong(id, leashMs) {
      const until = uptimeMs() + leashMs;
      for (const leash of pending) if (leash.id === id && leash.until !== null) leash.until = until;
      const runDirectory = runDirectoryOf(id);
      if (existsSync(join(runDirectory, LEASH_FILE))) writeEnd(runDirectory, until);
    },
    async release(id) {
      for (const leash of pending) if (leash.id === id) leash.until = null;
      await removeLeash(runDirectoryOf(id));
    },
  };
}

/** Whether a leash ended before its machine had a process. */
export function isExpired(leash: PendingLeash | null): boolean {
  return leash?.until != null && leash.until <= uptimeMs();
}

/** Whether the leash in this directory ended: then the guard killed the process there. */
export function hasLeashEnded(runDirectory: string): boolean {
  const until = readFileIfPresent(join(runDirectory, LEASH_FILE));
  return until !== null && Number(until) * 10 <= uptimeMs();
}

/** Writes the leash of the next process in the directory, or removes the file if it has none. */
export function writeLeash(runDirectory: string, leash: PendingLeash | null): void {
  if (leash?.until == null) rmSync(join(runDirectory, LEASH_FILE), { force: true });
  else writeEnd(runDirectory, leash.until);
}

/** Removes the leash of the directory, whether its process runs or not; resolves when the guard is gone. */
export async function removeLeash(runDirectory: string): Promise<void> {
  const file = join(runDirectory, GUARD_FILE);
  rmSync(join(runDirectory, LEASH_FILE), { force: true });
  const [pid, start_ticks, boot_id] = (readFileIfPresent(file) ?? "").trim().split(" ");
  if (!pid || !start_ticks || !boot_id) return;
  // SIGUSR1 makes the guard look at once: it finds no leash and exits by itself.
  const guard: ProcessIdentity = { pid: Number(pid), start_ticks, boot_id };
  const gone = { timeoutMs: GUARD_EXIT_MS, everyMs: 10, what: "a machine's guard to go" };
  await waitFor(() => !sendSignal(guard, "SIGUSR1"), gone).catch(() => sendSignal(guard, "SIGKILL"));
  rmSync(file, { force: true });
}

// Not synced to the disk: a leash means nothing after a reboot. The rename is atomic: a reader sees the old
// end or the new one.
function writeEnd(runDirectory: string, until: number): void {
  const file = join(runDirectory, LEASH_FILE);
  writeFileSync(`${file}~`, `${Math.floor(until / 10)}\n`, { mode: 0o600 });
  renameSync(`${file}~`, file);
}
