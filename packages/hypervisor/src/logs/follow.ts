// How the lines of a machine's logs are handed over while QEMU writes them: read from where the last
// hand-over ended, and dropped from the disk afterwards. A crash between the two hands some over again; none
// is lost.

import { closeSync, fstatSync, openSync, readSync, statSync, watch } from "node:fs";
import { join } from "node:path";
import { LIMITS } from "@formation-mcp/contract";
import { createLogSplitter, LineRate } from "./lines.ts";
import {
  diskBytes,
  dropHead,
  type Offsets,
  readOffsets,
  STREAMS,
  type Stream,
  writeOffsets,
} from "./offsets.ts";
import { withoutControls } from "./tail.ts";

export type OnLine = (stream: Stream, line: string) => void;

export interface FollowSource {
  /** Holds `offsets.json`. */
  directory: string;
  /** Holds the log files. */
  runDirectory: string;
  /** Whether the machine was removed: then following ends. */
  removed(): boolean;
  /** Whether something may still write; a last line without an end is handed over when nothing does. */
  writing(): boolean;
  /** Rises whenever the files were emptied. */
  epoch(): number;
}

/** What the firmware says before the kernel speaks. */
const FIRMWARE = /^(SeaBIOS |Booting from ROM)/;
const CHUNK = 256 * 1024;
/** Handed-over bytes that may stay on the disk. */
const KEPT_BYTES = 1024 * 1024;
const EVERY_MS = 500;
/** Per stream, while nobody follows. */
export const UNFOLLOWED_BYTES = 2 * LIMITS.logBytesPerStream;
const AT_ONCE = 8 * CHUNK;

/** Follows until the signal aborts or the machine is removed. */
export async function followLogs(source: FollowSource, signal: AbortSignal, onLine: OnLine): Promise<void> {
  const offsets = readOffsets(source.directory);
  const rate = new LineRate(() => performance.now());
  const readers = (Object.keys(STREAMS) as Stream[]).map((stream) =>
    reader(source, stream, offsets, rate, onLine),
  );
  let written = JSON.stringify(offsets);
  const save = () => {
    const now = JSON.stringify(offsets);
    if (now === written || source.removed()) return;
    try {
      writeOffsets(source.directory, offsets);
      written = now;
    } catch (error) {
      // A full disk is what dropping the logs' heads helps against: it goes on, and is written later.
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  };
  const bell = alarm(source.runDirectory, signal);
  try {
    while (!signal.aborted && !source.removed()) {
      let more = false;
      for (const drain of readers) more = drain() || more;
      tellDropped(rate, onLine, false);
      save();
      for (const [stream, file] of Object.entries(STREAMS)) {
        const path = join(source.runDirectory, file);
        if (diskBytes(path) > KEPT_BYTES) await dropHead(path, offsets[stream as Stream]).catch(() => {});
      }
      await bell.wait(more ? 0 : EVERY_MS);
    }
    tellDropped(rate, onLine, true);
  } catch (error) {
    if (!source.removed()) throw error;
  } finally {
    bell.close();
  }
}

function reader(
  source: FollowSource,
  stream: Stream,
  offsets: Offsets,
  rate: LineRate,
  onLine: OnLine,
): () => boolean {
  const path = join(source.runDirectory, STREAMS[stream]);
  let at = offsets[stream];
  let epoch = source.epoch();
  const hand = (raw: string) => {
    const line = stream === "console" ? withoutControls(raw) : raw;
    if (stream === "console" && (line === "" || FIRMWARE.test(line))) return;
    if (rate.admit()) onLine(stream, line);
  };
  let splitter = createLogSplitter(hand);
  return () => {
    const writing = source.writing();
    if (source.epoch() !== epoch) {
      epoch = source.epoch();
      at = readOffsets(source.directory)[stream];
      splitter = createLogSplitter(hand);
    }
    const { chunk, size } = readFrom(path, at);
    if (size < at) at = 0;
    splitter.push(chunk);
    at += chunk.length;
    const ended = !writing && chunk.length === 0;
    if (ended) splitter.flush();
    offsets[stream] = at - splitter.pending;
    return chunk.length > 0 && at < size;
  };
}

function readFrom(path: string, at: number): { chunk: Buffer; size: number } {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return { chunk: Buffer.alloc(0), size: at };
  }
  try {
    const size = fstatSync(file).size;
    const chunk = Buffer.alloc(Math.max(0, Math.min(size - at, AT_ONCE)));
    const got = chunk.length === 0 ? 0 : readSync(file, chunk, 0, chunk.length, at);
    return { chunk: chunk.subarray(0, got), size };
  } finally {
    closeSync(file);
  }
}

function tellDropped(rate: LineRate, onLine: OnLine, final: boolean): void {
  const dropped = rate.takeDropped(final);
  if (dropped > 0) onLine("stderr", `[formation] ${dropped} lines dropped: more than 2,000 a second`);
}

/** Rings when a file in the directory changes; at the latest after the time given to `wait`. */
function alarm(directory: string, signal: AbortSignal): { wait(ms: number): Promise<void>; close(): void } {
  let rung = false;
  let ring: (() => void) | null = null;
  const onRing = () => {
    rung = true;
    ring?.();
  };
  const watchers = Object.values(STREAMS).flatMap((file) => {
    try {
      const watcher = watch(join(directory, file), { persistent: false }, onRing);
      watcher.on("error", () => {});
      return [watcher];
    } catch {
      return [];
    }
  });
  signal.addEventListener("abort", onRing, { once: true });
  return {
    wait: (ms) =>
      new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          ring = null;
          rung = false;
          resolve();
        };
        const timer = setTimeout(done, ms);
        if (!rung) ring = done;
        else setTimeout(done, Math.min(ms, 20)); // a flood is taken in gulps
      }),
    close: () => {
      for (const watcher of watchers) watcher.close();
      signal.removeEventListener("abort", onRing);
    },
  };
}

/**
 * Bounds what a guest may pile up while nobody follows: the newest half of `bytes` stays. Reads nothing,
 * however much it is; on a full disk the room comes first.
 */
export async function boundLogs(directory: string, runDirectory: string, bytes: number): Promise<void> {
  const offsets = readOffsets(directory);
  let dropped = false;
  for (const stream of Object.keys(STREAMS) as Stream[]) {
    const path = join(runDirectory, STREAMS[stream]);
    if (diskBytes(path) <= bytes) continue;
    const size = statSync(path).size;
    offsets[stream] = Math.max(offsets[stream], size - Math.floor(bytes / 2));
    await dropHead(path, offsets[stream]);
    dropped = true;
  }
  if (dropped) writeOffsets(directory, offsets);
}
