// How far each of a machine's logs was handed over: byte positions that survive a crash of the worker. What
// was handed over is cut out of the file from its front, without a hole in time: QEMU goes on appending while
// we do.

import { renameSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readIfThere, run } from "@formation-mcp/os";

export const STREAMS = { stdout: "out", stderr: "err", console: "console" } as const;
export type Stream = keyof typeof STREAMS;

export type Offsets = Record<Stream, number>;

const FILE = "offsets.json";

/** Reads the positions of a machine; all 0 if none were written. */
export function readOffsets(directory: string): Offsets {
  const offsets: Offsets = { stdout: 0, stderr: 0, console: 0 };
  try {
    const stored = JSON.parse(readIfThere(join(directory, FILE)) ?? "{}") as Partial<Offsets>;
    for (const stream of Object.keys(offsets) as Stream[]) {
      const at = stored[stream];
      if (typeof at === "number" && Number.isSafeInteger(at) && at >= 0) offsets[stream] = at;
    }
  } catch {
    // A torn file means handing over again: at least once.
  }
  return offsets;
}

export function writeOffsets(directory: string, offsets: Offsets): void {
  const path = join(directory, FILE);
  writeFileSync(`${path}.tmp`, JSON.stringify(offsets), { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}

/**
 * Gives the disk back what lies before `end`; positions stay as they were. See fallocate(2),
 * FALLOC_FL_PUNCH_HOLE.
 */
export async function dropHead(path: string, end: number): Promise<void> {
  const whole = Math.floor(end / 4096) * 4096;
  if (whole === 0) return;
  await run("fallocate", ["--punch-hole", "--offset", "0", "--length", String(whole), path], {
    timeoutMs: 10_000,
  });
}

/** Bytes that a file really takes on the disk. */
export function diskBytes(path: string): number {
  return (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/** Empties the logs that were handed over to their end. Only while no QEMU writes to them. */
export function truncateHandedOver(machineDirectory: string, runDirectory: string): void {
  const offsets = readOffsets(machineDirectory);
  for (const stream of Object.keys(STREAMS) as Stream[]) {
    const path = join(runDirectory, STREAMS[stream]);
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    if (stream !== "console" && offsets[stream] < size) continue;
    // The console starts anew with each boot: what it says of an earlier one would mislead.
    if (size > 0) truncateSync(path, 0);
    offsets[stream] = 0;
  }
  writeOffsets(machineDirectory, offsets);
}
