// Reading a bounded part of a file that somebody else writes.

import { closeSync, fstatSync, openSync, readSync } from "node:fs";

/** At most so many bytes from a position on, one character each (latin1); empty if there is no such file. */
export function readFrom(path: string, at: number, bytes: number): string {
  return part(path, () => [at, bytes], "latin1");
}

/** At most the last so many bytes, as text; empty if there is no such file. */
export function readTail(path: string, bytes: number): string {
  return part(path, (size) => [Math.max(0, size - bytes), bytes]);
}

function part(
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

/** The last lines of a text, without control characters: fit for an error's `log_tail`. */
export function lastLines(text: string, count: number): string[] {
  return text
    .split(/\r?\n/)
    .filter((line) => line.trim() !== "")
    .slice(-count)
    .map((line) => line.slice(0, 500));
}
