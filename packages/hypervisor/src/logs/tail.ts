// Reading a bounded part of a file that another process writes.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { withoutControls } from "@formation-mcp/base";

const MAX_TAIL_LINE_LENGTH = 500;

/** At most `bytes` from a position on, one character each (latin1); empty if there is no such file. */
export function readBytes(path: string, at: number, bytes: number): string {
  return readRange(path, () => [at, bytes], "latin1");
}

/** At most the last `bytes`, as text; empty if there is no such file. */
export function readTail(path: string, bytes: number): string {
  return readRange(path, (size) => [Math.max(0, size - bytes), bytes]);
}

function readRange(
  path: string,
  range: (size: number) => [number, number],
  encoding: "utf8" | "latin1" = "utf8",
): string {
  let file: number;
  try {
    file = openSync(path, "r");
  } catch {
    return "";
  }
  try {
    const size = fstatSync(file).size;
    const [from, length] = range(size);
    const buffer = Buffer.alloc(Math.min(length, Math.max(0, size - from)));
    return buffer.toString(encoding, 0, readSync(file, buffer, 0, buffer.length, from));
  } finally {
    closeSync(file);
  }
}

/**
 * The last lines of a text for an error's `log_tail`: without control characters and empty lines, each cut.
 */
export function lastLines(text: string, count: number): string[] {
  return withoutControls(text.replaceAll("\r\n", "\n"))
    .split(/\r?\n/)
    .filter((line) => line.trim() !== "")
    .slice(-count)
    .map((line) => line.slice(0, MAX_TAIL_LINE_LENGTH));
}
