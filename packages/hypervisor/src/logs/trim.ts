// Freeing the disk space of log files. A running QEMU appends to them, so a file is not shortened: a hole is
// punched at its front, and positions in it stay valid.

import { statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { LIMITS } from "@formation-mcp/contract";
import { run } from "@formation-mcp/os";
import { readOffsets, STREAMS, type Stream, writeOffsets } from "./offsets.ts";

/** For each stream of a machine whose logs nobody follows. */
const MAX_UNFOLLOWED_BYTES = 2 * LIMITS.logBytesPerStream;
/** The file system frees whole blocks. */
const BLOCK_BYTES = 4096;

/** Frees the blocks before `end`; the file keeps its length. See fallocate(2), FALLOC_FL_PUNCH_HOLE. */
export async function dropHead(path: string, end: number): Promise<void> {
  const whole = Math.floor(end / BLOCK_BYTES) * BLOCK_BYTES;
  if (whole === 0) return;
  await run("fallocate", ["--punch-hole", "--offset", "0", "--length", String(whole), path], {
    timeoutMs: 10_000,
  });
}

/** The bytes that a file occupies on the disk, without its holes. */
export function diskBytes(path: string): number {
  return (statSync(path, { throwIfNoEntry: false })?.blocks ?? 0) * 512;
}

/**
 * Empties the logs that were handed over to their end, and the console's. Call it only while no process
 * writes to them.
 */
export function truncateHandedOver(machineDirectory: string, runDirectory: string): void {
  const offsets = readOffsets(machineDirectory);
  for (const stream of Object.keys(STREAMS) as Stream[]) {
    const path = join(runDirectory, STREAMS[stream]);
    const size = statSync(path, { throwIfNoEntry: false })?.size ?? 0;
    // The console is emptied in any case: messages of an earlier boot would mislead.
    if (stream !== "console" && offsets[stream] < size) continue;
    if (size > 0) truncateSync(path, 0);
    offsets[stream] = 0;
  }
  writeOffsets(machineDirectory, offsets);
}

/**
 * Bounds the logs of a machine without a follower: of a stream that is too long, the newest half of the
 * limit stays. The file is freed before the offsets are written, because the disk may be full.
 */
export async function boundLogs(machineDirectory: string, runDirectory: string): Promise<void> {
  const offsets = readOffsets(machineDirectory);
  let dropped = false;
  for (const stream of Object.keys(STREAMS) as Stream[]) {
    const path = join(runDirectory, STREAMS[stream]);
    if (diskBytes(path) <= MAX_UNFOLLOWED_BYTES) continue;
    const size = statSync(path).size;
    offsets[stream] = Math.max(offsets[stream], size - Math.floor(MAX_UNFOLLOWED_BYTES / 2));
    await dropHead(path, offsets[stream]);
    dropped = true;
  }
  if (dropped) writeOffsets(machineDirectory, offsets);
}
