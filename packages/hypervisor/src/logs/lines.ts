// How bytes that a guest prints become lines: cut at a length, counted against a rate, dropped beyond it with
// a word about how many.

import { ByteLineSplitter } from "@formation-mcp/base";
import { LIMITS } from "@formation-mcp/contract";

/** Of a machine, all streams together; lines beyond it are dropped. */
const LINES_PER_SECOND = 2000;

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** Splits the bytes of a log into lines of text, each cut at {@link LIMITS.logLineBytes}. */
export function createLogSplitter(onLine: (line: string) => void): ByteLineSplitter {
  return new ByteLineSplitter(LIMITS.logLineBytes, (bytes) => onLine(decoder.decode(bytes)));
}

/** Admits `LINES_PER_SECOND` lines in each second and counts the rest. */
export class LineRate {
  readonly #now: () => number;
  #second = Number.NEGATIVE_INFINITY;
  #count = 0;
  #dropped = 0;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Whether the next line may be handed over. */
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

  /** How many lines were dropped, once their second is over; counted from 0 again after that. */
  takeDropped(final = false): number {
    if (!final && Math.floor(this.#now() / 1000) === this.#second) return 0;
    const dropped = this.#dropped;
    this.#dropped = 0;
    return dropped;
  }
}
