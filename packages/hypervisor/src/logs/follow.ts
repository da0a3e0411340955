// This folder knows how the logs of a machine are read while its process appends to them: line by line, from
// stored positions, within limits of rate and disk space. This file follows them and frees what it handed
// over. A crash between the two hands some lines over again; none is lost.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { withoutControls } from "@formation-mcp/base";
import { createLogSplitter, LineRate } from "./lines.ts";
import { type Offsets, readOffsets, STREAMS, type Stream, writeOffsets } from "./offsets.ts";
import { diskBytes, dropHead } from "./trim.ts";
import { watchLogs } from "./watch.ts";

export type OnLine = (stream: Stream, line: string) => void;

export interface FollowSource {
  /** The directory of `offsets.json`. */
  directory: string;
  /** The directory of the log files. */
  runDirectory: string;
  /** Whether the machine was removed: following ends then. */
  removed(): boolean;
  /** Whether a process may still write. If none does, a last line without a newline is handed over. */
  writing(): boolean;
  /** Rises whenever the files were emptied. */
  epoch(): number;
}

/** What the firmware prints before the kernel does. */
const FIRMWARE = /^(SeaBIOS |Booting from ROM)/;
/** Of each stream at a time, so that one does not hold up the others. */
const MAX_READ_BYTES = 2 * 1024 * 1024;
/** Of each file, handed over and not freed yet. */
const MAX_KEPT_BYTES = 1024 * 1024;
const POLL_MS = 500;

/** Follows all streams until the signal aborts or the machine is removed. */
export async function followLogs(source: FollowSource, signal: AbortSignal, onLine: OnLine): Promise<void> {
  const offsets = readOffsets(source.directory);
  const rate = new LineRate(() => performance.now());
  const streams = Object.keys(STREAMS) as Stream[];
  const readers = streams.map((stream) => createReader(source, stream, offsets, rate, onLine));
  const save = createSaver(source, offsets);
  const watch = watchLogs(source.runDirectory, signal);
  try {
    while (!signal.aborted && !source.removed()) {
      const hasMore = readers.map((read) => read()).includes(true);
      reportDropped(rate, onLine, false);
      save();
      for (const stream of streams) {
        const path = join(source.runDirectory, STREAMS[stream]);
        if (diskBytes(path) > MAX_KEPT_BYTES) await dropHead(path, offsets[stream]).catch(() => {});
      }
      await watch.wait(hasMore ? 0 : POLL_MS);
    }
    reportDropped(rate, onLine, true);
  } catch (error) {
    if (!source.removed()) throw error;
  } finally {
    watch.close();
  }
}

/**
 * Reads a stream on from its offset, hands its lines over, and moves the offset; returns whether there is
 * more.
 */
function createReader(
  source: FollowSource,
  stream: Stream,
  offsets: Offsets,
  rate: LineRate,
  onLine: OnLine,
): () => boolean {
  const path = join(source.runDirectory, STREAMS[stream]);
  let at = offsets[stream];
  let epoch = source.epoch();
  const handOver = (raw: string) => {
    const line = stream === "console" ? withoutControls(raw) : raw;
    if (stream === "console" && (line === "" || FIRMWARE.test(line))) return;
    if (rate.admit()) onLine(stream, line);
  };
  let splitter = createLogSplitter(handOver);
  return () => {
    // Asked before the read: when nothing writes any more, the read that follows sees all of it.
    const writing = source.writing();
    if (source.epoch() !== epoch) {
      epoch = source.epoch();
      at = readOffsets(source.directory)[stream];
      splitter = createLogSplitter(handOver);
    }
    const { chunk, size } = readChunk(path, at);
    if (size < at) at = 0;
    splitter.push(chunk);
    at += chunk.length;
    if (!writing && chunk.length === 0) splitter.flush();
    offsets[stream] = at - splitter.pending;
    return chunk.length > 0 && at < size;
  };
}

/** Writes the offsets down whenever they changed. */
function createSaver(source: FollowSource, offsets: Offsets): () => void {
  let written = JSON.stringify(offsets);
  return () => {
    const now = JSON.stringify(offsets);
    if (now === written || source.removed()) return;
    try {
      writeOffsets(source.directory, offsets);
      written = now;
    } catch (error) {
      // The disk is full: following goes on, because it frees space, and the offsets are written later.
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  };
}

function readChunk(path: string, at: number): { chunk: Buffer; size: number } {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return { chunk: Buffer.alloc(0), size: at };
  }
  try {
    const size = fstatSync(file).size;
    const chunk = Buffer.alloc(Math.max(0, Math.min(size - at, MAX_READ_BYTES)));
    const got = chunk.length === 0 ? 0 : readSync(file, chunk, 0, chunk.length, at);
    return { chunk: chunk.subarray(0, got), size };
  } finally {
    closeSync(file);
  }
}

function reportDropped(rate: LineRate, onLine: OnLine, final: boolean): void {
  const dropped = rate.takeDropped(final);
  if (dropped > 0) onLine("stderr", `[formation] ${dropped} lines dropped: more than 2,000 a second`);
}
