// Collects issues, sorts them in document order, and converts offsets to lines and columns.
import { FORMFILE_LIMITS } from "./limits.ts";
import type { FormfileIssue } from "./types.ts";

interface Found {
  at: number;
  path: string;
  problem: string;
  remedy: string;
}

/** The issues of one parse. Offsets are indexes into the text; without a text they only order the issues. */
export class Report {
  readonly text: string | undefined;
  readonly #found: Found[] = [];
  readonly #reported: [start: number, end: number][] = [];
  #unlisted = 0;
  #starts: number[] | undefined;

  constructor(text?: string) {
    this.text = text;
  }

  get empty(): boolean {
    return this.#found.length === 0;
  }

  /** Whether the list is full: further issues are only counted. */
  get full(): boolean {
    return this.#found.length >= FORMFILE_LIMITS.issues;
  }

  add(at: number, path: string, problem: string, remedy: string): void {
    if (this.full) this.#unlisted += 1;
    else this.#found.push({ at, path, problem, remedy });
  }

  /** Records that the characters from `start` up to `end` have been reported. */
  markReported(start: number, end: number): void {
    this.#reported.push([start, end]);
  }

  isReported(at: number): boolean {
    return this.#reported.some(([start, end]) => at >= start && at < end);
  }

  /** The 1-based line of an offset; undefined without a text. */
  lineOf(at: number): number | undefined {
    const starts = this.#lineStarts();
    return starts && position(starts, at).line;
  }

  issues(): FormfileIssue[] {
    const starts = this.#lineStarts();
    const listed = this.#found
      .toSorted((a, b) => a.at - b.at)
      .map(({ at, ...rest }): FormfileIssue => (starts ? { ...rest, ...position(starts, at) } : rest));
    if (this.#unlisted > 0)
      listed.push({
        path: "",
        problem: `${this.#unlisted} more issues are not listed.`,
        remedy: "Correct the ones above and parse again.",
      });
    return listed;
  }

  #lineStarts(): number[] | undefined {
    if (this.text !== undefined) this.#starts ??= lineStarts(this.text);
    return this.#starts;
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

function position(starts: readonly number[], at: number): { line: number; column: number } {
  let low = 0;
  let high = starts.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] ?? 0) <= at) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: at - (starts[low] ?? 0) + 1 };
}
