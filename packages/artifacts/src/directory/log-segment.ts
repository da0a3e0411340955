// Reads one segment from either end, without reading all of it. Bytes without a line end are ignored.

import type { FileHandle } from "node:fs/promises";
import { MAX_FRAME_BYTES, type NumberedLine, unframe } from "./log-files.ts";

const CHUNK_BYTES = 64 * 1024;
const LINE_END = 10;

async function readAt(file: FileHandle, at: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafe(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, at + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

/**
 * The lines from a byte on, oldest first. If `whole` is false, a byte inside a line starts with the next
 * line.
 */
export async function* readForwards(
  file: FileHandle,
  stream: string,
  from: number,
  whole = true,
): AsyncGenerator<{ line: NumberedLine; at: number }> {
  let rest: Buffer = Buffer.alloc(0);
  let restAt = from;
  let skip = !whole;
  for (let at = from; ; ) {
    const chunk = await readAt(file, at, CHUNK_BYTES);
    if (chunk.length === 0) return;
    at += chunk.length;
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let begin = 0;
    for (let end = bytes.indexOf(LINE_END); end !== -1; end = bytes.indexOf(LINE_END, begin)) {
      const line = skip ? null : unframe(stream, bytes.subarray(begin, end));
      if (line) yield { line, at: restAt + begin };
      skip = false;
      begin = end + 1;
    }
    rest = bytes.subarray(begin);
    restAt += begin;
    if (rest.length > MAX_FRAME_BYTES) {
      // Longer than any frame: damaged up to the next line end.
      restAt += rest.length;
      rest = Buffer.alloc(0);
      skip = true;
    }
  }
}

/** The lines, newest first. */
export async function* readBackwards(file: FileHandle, stream: string): AsyncGenerator<NumberedLine> {
  let end = (await file.stat()).size;
  let later: Buffer = Buffer.alloc(0);
  let torn = true; // until the last line end is found, the bytes are an incomplete line
  while (end > 0) {
    const begin = Math.max(0, end - CHUNK_BYTES);
    let bytes: Buffer = Buffer.concat([await readAt(file, begin, end - begin), later]);
    end = begin;
    if (torn) {
      const last = bytes.lastIndexOf(LINE_END);
      if (last === -1) {
        later = bytes.length > MAX_FRAME_BYTES ? Buffer.alloc(0) : bytes;
        continue;
      }
      torn = false;
      bytes = bytes.subarray(0, last);
    }
    for (let cut = bytes.lastIndexOf(LINE_END); cut !== -1; cut = bytes.lastIndexOf(LINE_END)) {
      const line = unframe(stream, bytes.subarray(cut + 1));
      if (line) yield line;
      bytes = bytes.subarray(0, cut);
    }
    later = bytes.length > MAX_FRAME_BYTES ? Buffer.alloc(0) : bytes;
  }
  const line = torn ? null : unframe(stream, later);
  if (line) yield line;
}

/** A byte at or shortly before the first line with this number or a later one. */
export async function seekLine(file: FileHandle, stream: string, number: number): Promise<number> {
  let low = 0;
  let high = (await file.stat()).size;
  while (high - low > CHUNK_BYTES) {
    const middle = Math.floor((low + high) / 2);
    const lines = readForwards(file, stream, middle, false);
    const found = await lines.next();
    await lines.return(undefined);
    if (!found.done && found.value.line.number < number) low = found.value.at;
    else high = middle;
  }
  return low;
}
