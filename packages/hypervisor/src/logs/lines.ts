// How bytes that a guest prints become lines: cut at a length, counted against a rate, dropped beyond it with
// a word about how many.

import { ByteLineSplitter } from "@formation-mcp/base";
import { LIMITS } from "@formation-mcp/contract";

/** Lines a second per machine; beyond that they are dropped. */
const LINES_PER_SECOND = 2000;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Splits the bytes of a log into lines of text, each cut at {@link LIMITS.logLineBytes}. */
export function createLogSplitter(onLine: (line: string) => void): ByteLineSplitter {
  return new ByteLineSplitter(LIMITS.logLineBytes, (bytes) => onLine(decoder.decode(bytes)));
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
