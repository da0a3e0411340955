// Reads logs from their files. Lines newer than the newest one at the start are not returned, so that a
// cursor never skips a line that a writer is about to add to another stream.

import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import type { LogSource } from "../log-pages.ts";
import { errnoOf } from "../streams.ts";
import { listSegments, type NumberedLine, type Segment, segmentName } from "./log-files.ts";
import { readBackwards, readForwards, seekLine } from "./log-segment.ts";

export async function createLogSource(directory: string): Promise<LogSource> {
  const newest = await newestNumber(directory);
  const streams = [...(await listSegments(directory))].map(([stream, segments]) => ({
    stream,
    fromNumber: (number: number) => fromNumber(directory, segments, number),
    fromEnd: () => fromEnd(directory, segments),
  }));
  return { newest, streams };
}

/** The number of the newest line of all streams, 0 if there is none. */
async function newestNumber(directory: string): Promise<number> {
  let newest = 0;
  for (const [, segments] of await listSegments(directory)) {
    for await (const line of fromEnd(directory, segments)) {
      newest = Math.max(newest, line.number);
      break;
    }
  }
  return newest;
}

async function* fromNumber(
  directory: string,
  segments: Segment[],
  number: number,
): AsyncGenerator<NumberedLine> {
  const next = segments.findIndex((segment) => segment.first > number);
  const start = Math.max(0, (next === -1 ? segments.length : next) - 1);
  for (const segment of segments.slice(start)) {
    const file = await openIfThere(directory, segment);
    if (!file) continue;
    try {
      const at = segment.first < number ? await seekLine(file, segment.stream, number) : 0;
      for await (const { line } of readForwards(file, segment.stream, at))
        if (line.number >= number) yield line;
    } finally {
      await file.close();
    }
  }
}

async function* fromEnd(directory: string, segments: Segment[]): AsyncGenerator<NumberedLine> {
  for (const segment of segments.toReversed()) {
    const file = await openIfThere(directory, segment);
    if (!file) continue;
    try {
      yield* readBackwards(file, segment.stream);
    } finally {
      await file.close();
    }
  }
}

/** Opens a segment; null if the writer has just removed it. */
async function openIfThere(directory: string, segment: Segment): Promise<FileHandle | null> {
  try {
    return await open(join(directory, segmentName(segment)), "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}
