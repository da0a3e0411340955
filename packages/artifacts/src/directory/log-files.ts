// How a record's log is stored on disk: one directory, with a row of segment files for each stream, each
// named by the number of its first line. A line is one JSON array `[number, at, text]`, so a torn write
// damages only one line.

import { readdir } from "node:fs/promises";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import type { LogLine } from "../port.ts";
import { errnoOf } from "../streams.ts";

/** A stream is trimmed by whole segments, so a segment is a fraction of its limit. */
export const SEGMENT_BYTES = LIMITS.logBytesPerStream / 8;
/** The bytes of a frame with a text of the maximum length in which every byte is escaped. */
export const MAX_FRAME_BYTES = LIMITS.logLineBytes * 6 + 64;

/** The largest line number. It leaves room to count on from any number. */
export const MAX_LINE_NUMBER = 2 ** 52;
/** The latest time that a Date can have, in milliseconds since the epoch. */
const MAX_TIME_MS = 8.64e15;
const LOG_NAME = /^[a-z]{1,16}_[0-9a-z]{1,64}(\.[0-9]{1,9})?$/;
const STREAM_NAME = /^[a-z]{1,16}$/;
const SEGMENT_NAME = /^([a-z]{1,16})\.([0-9]{15})$/;

export interface Segment {
  stream: string;
  /** The number of its first line. */
  first: number;
}

/** A line with its number in the record's log. Numbers increase over all of its streams. */
export interface NumberedLine extends LogLine {
  number: number;
}

export function isLogName(name: string): boolean {
  return LOG_NAME.test(name);
}

export function checkLogName(name: string): void {
  if (isLogName(name)) return;
  throw new FormationError("invalid", "A log is named by a record's id, with or without an attempt.");
}

export function isStream(text: string): boolean {
  return STREAM_NAME.test(text);
}

export function checkStream(stream: string): void {
  if (isStream(stream)) return;
  throw new FormationError("invalid", "A log's stream is named by one lower-case word.");
}

export function segmentName(segment: Segment): string {
  return `${segment.stream}.${String(segment.first).padStart(15, "0")}`;
}

/** Every stream's segments, oldest first; empty if there is no log. */
export async function listSegments(directory: string): Promise<Map<string, Segment[]>> {
  let names: string[];
  try {
    names = await readdir(directory);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return new Map();
    throw error;
  }
  const streams = new Map<string, Segment[]>();
  for (const name of names.sort()) {
    const [, stream, first] = SEGMENT_NAME.exec(name) ?? [];
    if (stream === undefined) continue;
    const segments = streams.get(stream) ?? [];
    segments.push({ stream, first: Number(first) });
    streams.set(stream, segments);
  }
  return streams;
}

export function frame(number: number, line: LogLine): string {
  return `${JSON.stringify([number, line.at, line.text])}\n`;
}

/** Parses a framed line; null if it is torn or damaged. */
export function unframe(stream: string, bytes: Uint8Array): NumberedLine | null {
  try {
    const [number, at, text] = JSON.parse(Buffer.from(bytes).toString("utf8")) as unknown[];
    if (!Number.isInteger(number) || (number as number) > MAX_LINE_NUMBER || typeof text !== "string")
      return null;
    if (typeof at !== "number" || Math.abs(at) > MAX_TIME_MS) return null;
    return { number: number as number, at, stream, text };
  } catch {
    return null;
  }
}

/** The start of a text, at most `bytes` bytes of UTF-8, cut between characters. */
export function cutText(text: string, bytes: number): string {
  if (text.length * 3 <= bytes || Buffer.byteLength(text) <= bytes) return text;
  return new TextDecoder().decode(Buffer.from(text).subarray(0, bytes), { stream: true });
}
