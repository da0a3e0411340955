// Reading logs: the streams of a record merged by the numbers of their lines, forwards from a cursor or backwards from
// the end. Nothing beyond the newest line seen at the beginning is given, so that a cursor never skips a line that a
// writer was about to add to another stream.

import { type FileHandle, open } from "node:fs/promises";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { cutText, listSegments, type NumberedLine, type Segment, segmentName } from "./log-files.ts";
import { backwards, forwards, seek } from "./log-lines.ts";
import type { LogLine, LogPage, LogQuery } from "./port.ts";
import { errnoOf } from "./streams.ts";

const CURSOR = /^l([0-9a-z]{1,11})$/;

export async function readLogPage(directory: string, query: LogQuery): Promise<LogPage> {
  const after = query.cursor === undefined ? undefined : parseCursor(query.cursor);
  const newest = await newestNumber(directory);
  const streams = [...(await listSegments(directory))]
    .filter(([stream]) => query.streams === undefined || query.streams.includes(stream))
    .map(([, segments]) => segments);
  if (after === undefined && query.tail !== undefined) return tailPage(directory, streams, query, newest);
  // A cursor beyond the end is of a log that was removed and began anew.
  const from = after === undefined || after > newest ? 1 : after + 1;
  return forwardPage(directory, streams, query, from, newest);
}

async function forwardPage(
  directory: string,
  streams: Segment[][],
  query: LogQuery,
  from: number,
  newest: number,
): Promise<LogPage> {
  const page = new Page(query.maxBytes);
  const matches = matcher(query);
  let last = from - 1;
  const sources = streams.map((segments) => fromNumber(directory, segments, from));
  for await (const line of merge(sources, (a, b) => a.number - b.number)) {
    if (line.number > newest) break;
    if (!matches(line)) continue;
    if (!page.add(line)) return { lines: page.lines, cursor: cursorOf(last), more: true };
    last = line.number;
  }
  return { lines: page.lines, cursor: cursorOf(Math.max(newest, last)), more: false };
}

async function tailPage(
  directory: string,
  streams: Segment[][],
  query: LogQuery,
  newest: number,
): Promise<LogPage> {
  const page = new Page(query.maxBytes);
  const matches = matcher(query);
  const tail = query.tail ?? 0;
  let more = false;
  const sources = tail <= 0 ? [] : streams.map((segments) => fromEnd(directory, segments));
  for await (const line of merge(sources, (a, b) => b.number - a.number)) {
    if (line.number > newest || !matches(line)) continue;
    if (page.lines.length >= tail) break;
    more = !page.add(line);
    if (more) break;
  }
  return { lines: page.lines.reverse(), cursor: cursorOf(newest), more };
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
      const at = segment.first < number ? await seek(file, segment.stream, number) : 0;
      for await (const { line } of forwards(file, segment.stream, at)) if (line.number >= number) yield line;
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
      yield* backwards(file, segment.stream);
    } finally {
      await file.close();
    }
  }
}

/** A segment that a writer has just dropped is no longer there. */
async function openIfThere(directory: string, segment: Segment): Promise<FileHandle | null> {
  try {
    return await open(join(directory, segmentName(segment)), "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return null;
    throw error;
  }
}

async function* merge(
  sources: AsyncGenerator<NumberedLine>[],
  order: (a: NumberedLine, b: NumberedLine) => number,
): AsyncGenerator<NumberedLine> {
  const heads: { line: NumberedLine; source: AsyncGenerator<NumberedLine> }[] = [];
  const advance = async (source: AsyncGenerator<NumberedLine>) => {
    const next = await source.next();
    if (!next.done) heads.push({ line: next.value, source });
  };
  try {
    for (const source of sources) await advance(source);
    while (heads.length > 0) {
      heads.sort((a, b) => order(a.line, b.line));
      const head = heads.shift();
      if (!head) return;
      yield head.line;
      await advance(head.source);
    }
  } finally {
    for (const source of sources) await source.return(undefined);
  }
}

function matcher(query: LogQuery): (line: LogLine) => boolean {
  const needle = query.grep?.toLowerCase();
  return (line) =>
    (query.since === undefined || line.at >= query.since) &&
    (needle === undefined || line.text.toLowerCase().includes(needle));
}

class Page {
  readonly lines: LogLine[] = [];
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Adds a line if it fits. The first always does, cut if need be: else a page would never end. */
  add({ at, stream, text }: NumberedLine): boolean {
    const fits = this.lines.length === 0 ? cutText(text, Math.max(0, this.#maxBytes - 1)) : text;
    const bytes = this.#bytes + Buffer.byteLength(fits) + 1;
    if (this.lines.length > 0 && bytes > this.#maxBytes) return false;
    this.#bytes = bytes;
    this.lines.push({ at, stream, text: fits });
    return true;
  }
}

function cursorOf(number: number): string {
  return `l${number.toString(36)}`;
}

function parseCursor(cursor: string): number {
  const number = Number.parseInt(CURSOR.exec(cursor)?.[1] ?? "", 36);
  if (Number.isSafeInteger(number)) return number;
  throw new FormationError("invalid", "This is no cursor of a log.", {
    remedy: "Give the cursor that the last page returned, or none.",
    field: "cursor",
  });
}
