// The output of a child process: passed on line by line, with its end kept. Both are bounded.

import type { Readable } from "node:stream";
import { TextLineSplitter } from "@formation-mcp/base";

/** In characters. Only the beginning of a longer line is passed on. */
const MAX_LINE_LENGTH = 64 * 1024;

export interface Output {
  /** The last `keepBytes` bytes as text, without a character that is cut at the beginning. */
  text(): string;
  /** Passes on the last line, which may have no line end, and ignores all further output. */
  finish(): void;
}

/** Reads a stream until it ends or `finish` is called. */
export function collectOutput(
  stream: Readable | null | undefined,
  keepBytes: number,
  onLine: ((line: string) => void) | undefined,
): Output {
  const decoder = new TextDecoder();
  const kept: Uint8Array[] = [];
  let keptBytes = 0;
  const lines = new TextLineSplitter(MAX_LINE_LENGTH, (line) => onLine?.(line));
  let finished = false;

  const keep = (chunk: Uint8Array) => {
    kept.push(chunk);
    keptBytes += chunk.length;
    while (kept[0] && keptBytes - kept[0].length >= keepBytes) keptBytes -= kept.shift()?.length ?? 0;
  };
  const finish = () => {
    if (finished) return;
    finished = true;
    lines.push(decoder.decode());
    lines.flush();
  };

  stream?.on("data", (chunk: Uint8Array) => {
    if (finished) return;
    keep(chunk);
    if (onLine) lines.push(decoder.decode(chunk, { stream: true }));
  });
  stream?.on("error", () => {});
  return { text: () => endOf(Buffer.concat(kept), keepBytes), finish };
}

function endOf(bytes: Buffer, keepBytes: number): string {
  let from = Math.max(0, bytes.length - keepBytes);
  if (from > 0) while (from < bytes.length && ((bytes[from] ?? 0) & 0xc0) === 0x80) from++;
  return bytes.subarray(from).toString("utf8");
}
