// Appends to logs. Lines are written in the order of their numbers, so a reader that sees a line can also see
// all before it. What this process knows about a log's end is checked against the files before each write,
// and read again if it differs.

import { closeSync, fstatSync, openSync, readdirSync, statSync, writeSync } from "node:fs";
import { mkdir, open, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { createKeyedLock } from "@formation-mcp/base";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import type { LogLine } from "../port.ts";
import { errnoOf } from "../streams.ts";
import {
  checkLogName,
  checkStream,
  cutText,
  frame,
  listSegments,
  SEGMENT_BYTES,
  type Segment,
  segmentName,
} from "./log-files.ts";
import { readBackwards } from "./log-segment.ts";

const MAX_STREAMS_PER_LOG = 16;
const MAX_KNOWN_LOGS = 1_000;
const MAX_TRIES = 5;

interface StreamEnd {
  /** The segments with their sizes. The last one is written to. */
  segments: (Segment & { bytes: number })[];
}

interface LogEnd {
  next: number;
  streams: Map<string, StreamEnd>;
}

/** Thrown when the files differ from what this process knows. */
const CHANGED = Symbol("changed");

export class LogWriter {
  readonly #directoryOf: (name: string) => string;
  readonly #ends = new Map<string, LogEnd>();
  readonly #locks = createKeyedLock();

  constructor(directoryOf: (name: string) => string) {
    this.#directoryOf = directoryOf;
  }

  async append(name: string, lines: LogLine[]): Promise<void> {
    checkLogName(name);
    for (const line of lines) checkStream(line.stream);
    if (lines.length === 0) return;
    await this.#locks.run(name, async () => {
      let written = 0;
      for (let tries = 0; written < lines.length; tries++) {
        try {
          const known = this.#ends.get(name);
          // Checked once per call; within it, each file is checked when it is written.
          const asKnown = known && (written > 0 || isAsKnown(this.#directoryOf(name), known));
          const end = asKnown ? known : await this.#find(name);
          written += await this.#writeRun(name, end, lines, written);
          tries = 0;
        } catch (error) {
          this.#ends.delete(name);
          if (error !== CHANGED) throw error;
          if (tries >= MAX_TRIES)
            throw new FormationError("unavailable", "Another process writes to the same log.");
        }
      }
    });
  }

  async remove(name: string): Promise<void> {
    checkLogName(name);
    await this.#locks.run(name, async () => {
      this.#ends.delete(name);
      await rm(this.#directoryOf(name), { recursive: true, force: true });
    });
  }

  async idle(): Promise<void> {
    await this.#locks.idle();
  }

  /** Writes consecutive lines of one stream; returns how many. */
  async #writeRun(name: string, end: LogEnd, lines: LogLine[], from: number): Promise<number> {
    const stream = lines[from]?.stream ?? "";
    const ending = this.#streamOf(end, stream);
    const segment = this.#segmentFor(end, ending, stream);
    let text = "";
    let count = 0;
    for (let line = lines[from]; line?.stream === stream; line = lines[from + count]) {
      text += frame(end.next + count, { ...line, text: cutText(line.text, LIMITS.logLineBytes) });
      count++;
      if (text.length >= SEGMENT_BYTES / 4) break;
    }
    const bytes = Buffer.from(text);
    appendTo(join(this.#directoryOf(name), segmentName(segment)), segment.bytes, bytes);
    segment.bytes += bytes.length;
    end.next += count;
    await this.#dropOldest(name, ending);
    return count;
  }

  #streamOf(end: LogEnd, stream: string): StreamEnd {
    const known = end.streams.get(stream);
    if (known) return known;
    if (end.streams.size >= MAX_STREAMS_PER_LOG) {
      throw new FormationError("limit", `A log has at most ${MAX_STREAMS_PER_LOG} streams.`);
    }
    const ending: StreamEnd = { segments: [] };
    end.streams.set(stream, ending);
    return ending;
  }

  #segmentFor(end: LogEnd, ending: StreamEnd, stream: string): Segment & { bytes: number } {
    const last = ending.segments.at(-1);
    if (last && last.bytes < SEGMENT_BYTES) return last;
    const segment = { stream, first: end.next, bytes: 0 };
    ending.segments.push(segment);
    return segment;
  }

  async #dropOldest(name: string, ending: StreamEnd): Promise<void> {
    let total = ending.segments.reduce((sum, segment) => sum + segment.bytes, 0);
    while (total > LIMITS.logBytesPerStream) {
      const oldest = ending.segments.shift();
      if (!oldest) return;
      total -= oldest.bytes;
      await rm(join(this.#directoryOf(name), segmentName(oldest)), { force: true });
    }
  }

  /** Finds the end of a log. A torn last line is terminated, so that the next one starts on its own. */
  async #find(name: string): Promise<LogEnd> {
    const directory = this.#directoryOf(name);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const end: LogEnd = { next: 1, streams: new Map() };
    for (const [stream, segments] of await listSegments(directory)) {
      const ending: StreamEnd = { segments: [] };
      for (const segment of segments) {
        const { size } = await stat(join(directory, segmentName(segment))).catch((error) => {
          throw errnoOf(error) === "ENOENT" ? CHANGED : error;
        });
        ending.segments.push({ ...segment, bytes: size });
      }
      end.streams.set(stream, ending);
      const last = ending.segments.at(-1);
      if (last) end.next = Math.max(end.next, await this.#finish(directory, last));
    }
    this.#ends.set(name, end);
    const [oldest] = this.#ends.keys();
    if (this.#ends.size > MAX_KNOWN_LOGS && oldest !== undefined) this.#ends.delete(oldest);
    return end;
  }

  /** Terminates a torn line at a segment's end. Returns the number after its last line. */
  async #finish(directory: string, segment: Segment & { bytes: number }): Promise<number> {
    const file = await open(join(directory, segmentName(segment)), "a+", 0o600);
    try {
      if (segment.bytes > 0) {
        const tail = Buffer.alloc(1);
        await file.read(tail, 0, 1, segment.bytes - 1);
        if (tail[0] !== 10) segment.bytes += (await file.write("\n")).bytesWritten;
      }
      const lines = readBackwards(file, segment.stream);
      const newest = await lines.next();
      await lines.return(undefined);
      return newest.done ? segment.first : newest.value.number + 1;
    } finally {
      await file.close();
    }
  }
}

/** Whether a log is unchanged since this process last wrote to it. */
function isAsKnown(directory: string, end: LogEnd): boolean {
  const segments = [...end.streams.values()].flatMap((ending) => ending.segments);
  try {
    if (readdirSync(directory).length !== segments.length) return false;
    return [...end.streams.values()].every(({ segments: of }) => {
      const last = of.at(-1);
      return last === undefined || statSync(join(directory, segmentName(last))).size === last.bytes;
    });
  } catch {
    return false;
  }
}

/**
 * Appends to a file of the known size. Synchronous, because it is quick and a flood of lines comes in many
 * small runs.
 */
function appendTo(path: string, size: number, bytes: Uint8Array): void {
  let file: number;
  try {
    file = openSync(path, "a", 0o600);
  } catch (error) {
    throw errnoOf(error) === "ENOENT" ? CHANGED : error;
  }
  try {
    if (fstatSync(file).size !== size) throw CHANGED;
    if (writeSync(file, bytes) !== bytes.length)
      throw Object.assign(new Error("short write"), { code: "ENOSPC" });
  } finally {
    closeSync(file);
  }
}
