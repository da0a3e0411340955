// How far each of a machine's logs was handed over: positions in bytes, in a file that survives a crash of
// the worker.

import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { readFileIfPresent } from "@formation-mcp/os";

/** The log file of each stream, in the run directory. */
export const STREAMS = { stdout: "out", stderr: "err", console: "console" } as const;
export type Stream = keyof typeof STREAMS;

export type Offsets = Record<Stream, number>;

const OFFSETS_FILE = "offsets.json";

/** The positions of a machine; all 0 if none were written. */
export function readOffsets(directory: string): Offsets {
  const offsets: Offsets = { stdout: 0, stderr: 0, console: 0 };
  try {
    const stored = JSON.parse(readFileIfPresent(join(directory, OFFSETS_FILE)) ?? "{}") as Partial<Offsets>;
    for (const stream of Object.keys(offsets) as Stream[]) {
      const at = stored[stream];
      if (typeof at === "number" && Number.isSafeInteger(at) && at >= 0) offsets[stream] = at;
    }
  } catch {
    // A damaged file: the lines are handed over again. Delivery is at least once.
  }
  return offsets;
}

export function writeOffsets(directory: string, offsets: Offsets): void {
  const path = join(directory, OFFSETS_FILE);
  writeFileSync(`${path}.tmp`, JSON.stringify(offsets), { mode: 0o600 });
  renameSync(`${path}.tmp`, path);
}
