// Answers a log query: merges the lines of a log's streams by number, filters them, and cuts them into pages
// with cursors. The driver supplies the lines.

import { FormationError } from "@formation-mcp/contract";
import { cutText, type NumberedLine } from "./directory/log-files.ts";
import type { LogLine, LogPage, LogQuery } from "./port.ts";

const CURSOR = /^l([0-9a-z]{1,11})$/;

/** One stream of a log, readable from both ends. Lines that are being dropped may be missing. */
export interface StreamSource {
  stream: string;
  /** The lines with this number or a later one, oldest first. */
  fromNumber(number: number): AsyncGenerator<NumberedLine>;
  /** The lines, newest first. */
  fromEnd(): AsyncGenerator<NumberedLine>;
}

export interface LogSource {
  /** The number of the newest line to return, 0 for none. Every line up to it can be read. */
  newest: number;
  streams: StreamSource[];
}

/**
 * Reads one page. The source is opened only after the query is checked.
 * @throws FormationError `invalid` for a malformed cursor.
 */
export async function readPage(open: () => Promise<LogSource>, query: LogQuery): Promise<LogPage> {
  const after = query.cursor === undefined ? undefined : parseCursor(query.cursor);
  const { newest, streams } = await open();
  const wanted = streams.filter(
    ({ stream }) => query.streams === undefined || query.streams.includes(stream),
  );
  if (after === undefined && query.tail !== undefined) return tailPage(wanted, query, newest);
  // A cursor beyond the end belongs to a log that was removed and started again.
  const from = after === undefined || after > newest ? 1 : after + 1;
  return forwardPage(wanted, query, from, newest);
}

async function forwardPage(
  streams: StreamSource[],
  query: LogQuery,
  from: number,
  newest: number,
): Promise<LogPage> {
  const page = new Page(query.maxBytes);
  const matches = matcher(query);
  let last = from - 1;
  const sources = from > newest ? [] : streams.map((stream) => stream.fromNumber(from));
  for await (const line of merge(sources, (a, b) => a.number - b.number)) {
    if (line.number > newest) break;
    if (!matches(line)) continue;
    if (!page.add(line)) return { lines: page.lines, cursor: cursorOf(last), more: true };
    last = line.number;
  }
  return { lines: page.lines, cursor: cursorOf(Math.max(newest, last)), more: false };
}

async function tailPage(streams: StreamSource[], query: LogQuery, newest: number): Promise<LogPage> {
  const page = new Page(query.maxBytes);
  const matches = matcher(query);
  const tail = query.tail ?? 0;
  let more = false;
  const sources = tail <= 0 ? [] : streams.map((stream) => stream.fromEnd());
  for await (const line of merge(sources, (a, b) => b.number - a.number)) {
    if (line.number > newest || !matches(line)) continue;
    if (page.lines.length >= tail) break;
    more = !page.add(line);
    if (more) break;
  }
  return { lines: page.lines.reverse(), cursor: cursorOf(newest), more };
}

async function* merge(
  sources: AsyncGenerator<NumberedLine>[],
  order: (a: NumberedLine, b: NumberedLine) => number,
): AsyncGenerator<NumberedLine> {
  const heads: { line: NumberedLine; source: AsyncGenerator<NumberedLine> }[] = [];
  const advance = async (source: AsyncGenerator<NumberedLine>) => {
    const next = await source.next();
    if (!next.done) heads.push({ line: next.value, source });
  };
  try {
    for (const source of sources) await advance(source);
    while (heads.length > 0) {
      heads.sort((a, b) => order(a.line, b.line));
      const head = heads.shift();
      if (!head) return;
      yield head.line;
      await advance(head.source);
    }
  } finally {
    for (const source of sources) await source.return(undefined);
  }
}

function matcher(query: LogQuery): (line: LogLine) => boolean {
  const needle = query.grep?.toLowerCase();
  return (line) =>
    (query.since === undefined || line.at >= query.since) &&
    (needle === undefined || line.text.toLowerCase().includes(needle));
}

class Page {
  readonly lines: LogLine[] = [];
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /**
   * Adds a line if it fits. The first line is always added, cut if necessary; otherwise paging would never
   * end.
   */
  add({ at, stream, text }: NumberedLine): boolean {
    const fits = this.lines.length === 0 ? cutText(text, Math.max(0, this.#maxBytes - 1)) : text;
    const bytes = this.#bytes + Buffer.byteLength(fits) + 1;
    if (this.lines.length > 0 && bytes > this.#maxBytes) return false;
    this.#bytes = bytes;
    this.lines.push({ at, stream, text: fits });
    return true;
  }
}

function cursorOf(number: number): string {
  return `l${number.toString(36)}`;
}

function parseCursor(cursor: string): number {
  const number = Number.parseInt(CURSOR.exec(cursor)?.[1] ?? "", 36);
  if (Number.isSafeInteger(number)) return number;
  throw new FormationError("invalid", "This is no cursor of a log.", {
    remedy: "Give the cursor that the last page returned, or none.",
    field: "cursor",
  });
}
