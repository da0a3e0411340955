// How bytes that a guest prints become lines: cut at a length, counted against a rate, dropped beyond it with
// a word about how many.

import { LIMITS } from "@formation-mcp/contract";

/** Lines a second per machine; beyond that they are dropped. */
const LINES_PER_SECOND = 2000;

/** Splits a growing byte stream at newlines. A line longer than the limit is cut and its rest passed over. */
export class LineSplitter {
  #partial: Buffer = Buffer.alloc(0);
  #skipping = false;

  /** Bytes taken that belong to no whole line yet. */
  pending = 0;

  push(chunk: Buffer, onLine: (line: string) => void): void {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      this.#take(chunk.subarray(from, at));
      this.#emit(onLine);
      from = at + 1;
    }
    this.#take(chunk.subarray(from));
    if (this.#skipping) this.pending = 0;
    else this.pending = from === 0 ? this.pending + chunk.length : chunk.length - from;
    if (this.#skipping && this.#partial.length > 0) {
      // Told now: what never ends must not hold up the rest.
      onLine(this.#text());
    }
  }

  /** Hands over what stands after the last newline, if anything. */
  flush(onLine: (line: string) => void): void {
    if (this.#partial.length > 0) this.#emit(onLine);
    this.pending = 0;
  }

  #take(bytes: Buffer): void {
    if (this.#skipping || bytes.length === 0) return;
    const room = LIMITS.logLineBytes - this.#partial.length;
    this.#partial = Buffer.concat([this.#partial, bytes.subarray(0, room)]);
    if (bytes.length > room) this.#skipping = true;
  }

  #emit(onLine: (line: string) => void): void {
    const told = this.#skipping && this.#partial.length === 0;
    this.#skipping = false;
    if (!told) onLine(this.#text());
  }

  #text(): string {
    const line = this.#partial.toString("utf8");
    this.#partial = Buffer.alloc(0);
    return line.endsWith("\r") ? line.slice(0, -1) : line;
  }
}

/** Lets so many lines a second through and counts the rest. */
export class LineRate {
  readonly #now: () => number;
  #second = Number.NEGATIVE_INFINITY;
  #count = 0;
  #dropped = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Whether the next line may pass. */
  admit(): boolean {
    const second = Math.floor(this.#now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#count = 0;
    }
    if (++this.#count <= LINES_PER_SECOND) return true;
    this.#dropped++;
    return false;
  }

  /** The lines dropped before this second, once it is over: they are told then. */
  takeDropped(final = false): number {
    if (!final && Math.floor(this.#now() / 1000) === this.#second) return 0;
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
