// How a record's log is stored in a JetStream stream: one subject for each of its streams, and one that lists
// the streams. Each message has some lines, pointers to the messages before it, and the number up to which
// all lines of the log are stored. A stream is read backwards along these pointers, so a reader needs neither
// a consumer nor a search, whose cost in NATS grows with the number of logs. All content is untrusted. This
// folder knows how blobs and logs are stored in NATS.

import { LIMITS } from "@formation-mcp/contract";
import {
  cutText,
  frame,
  isStream,
  MAX_LINE_NUMBER,
  type NumberedLine,
  unframe,
} from "../directory/log-files.ts";
import type { LogLine } from "../port.ts";
import type { NatsStream, StoredMessage } from "./stream.ts";

export const LOG_STREAM = "FORMATION_LOGS";
export const LOG_SUBJECTS = ["formation.log.>"];
export const MAX_STREAMS_PER_LOG = 16;
/** How many earlier messages a message points to. */
const MAX_POINTERS = 32;

/** Where a message is in the stream, and where its lines start. */
export interface Pointer {
  seq: number;
  /** The number of its first line. */
  first: number;
  /** The bytes of the stream before it, including dropped ones. */
  offset: number;
}

export interface LogMessage extends Pointer {
  id: string;
  /** Every line of the log up to this number is stored. */
  sure: number;
  /** The offset of the oldest message that is kept. */
  from: number;
  /** The offset after its last line. */
  end: number;
  /** The messages before it, newest first; not necessarily all. */
  before: Pointer[];
  lines: NumberedLine[];
}

export function logFilter(name: string): string {
  return logSubject(name, "*");
}

export function logSubject(name: string, stream: string): string {
  const [record, attempt = "-"] = name.split(".");
  return `formation.log.${record}.${attempt}.${stream}`;
}

/** The subject that lists a log's streams. */
export function indexSubject(name: string): string {
  return logSubject(name, "-");
}

export function writeIndex(streams: string[]): Uint8Array {
  return Buffer.from(JSON.stringify(streams));
}

/** The streams that a log has. Invalid names are left out. */
export function readIndex(kept: StoredMessage | null): string[] {
  if (kept === null) return [];
  try {
    const named = (JSON.parse(Buffer.from(kept.data).toString("utf8")) as unknown[]).map(String);
    return [...new Set(named.filter(isStream))].slice(0, MAX_STREAMS_PER_LOG);
  } catch {
    return [];
  }
}

/** The names of all logs. */
export async function listLogs(stream: NatsStream): Promise<string[]> {
  const names = [...(await stream.subjects(LOG_SUBJECTS[0] as string)).keys()].map((subject) => {
    const [, , record, attempt] = subject.split(".");
    return attempt === "-" ? record : `${record}.${attempt}`;
  });
  return [...new Set(names)].filter((name) => name !== undefined).sort();
}

/** @param before newest first */
export function writeMessage(
  head: Pick<LogMessage, "id" | "sure" | "from" | "first" | "offset"> & { before: Pointer[] },
  lines: { number: number; line: LogLine }[],
): { data: Uint8Array; end: number } {
  const cut = (line: LogLine) => ({ ...line, text: cutText(line.text, LIMITS.logLineBytes) });
  const text = lines.map(({ number, line }) => frame(number, cut(line))).join("");
  const bytes = Buffer.from(text);
  const end = head.offset + bytes.length;
  const before = head.before.slice(0, MAX_POINTERS).map(({ seq, first, offset }) => [seq, first, offset]);
  const opening = Buffer.from(`${JSON.stringify({ v: 1, ...head, end, before })}\n`);
  return { data: Buffer.concat([opening, bytes]), end };
}

/** Parses a message; null if it is malformed. */
export function readMessage(kept: StoredMessage | null, subject: string): LogMessage | null {
  // A number may lead anywhere in the JetStream stream, also to other logs.
  if (kept === null || kept.subject !== subject) return null;
  const stream = subject.slice(subject.lastIndexOf(".") + 1);
  const bytes = Buffer.from(kept.data);
  const opened = bytes.indexOf(10);
  try {
    const head = JSON.parse(bytes.subarray(0, opened).toString("utf8")) as Record<string, unknown>;
    const number = (key: string) => natural(head[key]);
    let newer = kept.seq;
    const before = (head["before"] as unknown[]).map((entry) => {
      const [seq, first, offset] = (entry as unknown[]).map(natural) as [number, number, number];
      // Each must be strictly older, so that following them terminates.
      if (seq >= newer) throw new Error("not older");
      newer = seq;
      return { seq, first, offset: natural(offset) };
    });
    const lines: NumberedLine[] = [];
    for (let begin = opened + 1; begin < bytes.length; ) {
      const end = bytes.indexOf(10, begin);
      if (end === -1) break;
      const line = unframe(stream, bytes.subarray(begin, end));
      if (line) lines.push(line);
      begin = end + 1;
    }
    return {
      seq: kept.seq,
      id: String(head["id"]),
      first: number("first"),
      offset: number("offset"),
      sure: number("sure"),
      from: number("from"),
      end: number("end"),
      before,
      lines,
    };
  } catch {
    return null;
  }
}

/** The messages of one stream, newest first, as far back as they are kept. */
export async function* pointersBack(
  stream: NatsStream,
  subject: string,
  newest: LogMessage,
): AsyncGenerator<Pointer> {
  yield newest;
  for (let message: LogMessage | null = newest; message !== null && message.before.length > 0; ) {
    yield* message.before;
    const oldest: Pointer | undefined = message.before.at(-1);
    if (!oldest || oldest.offset <= newest.from) return;
    message = readMessage(await stream.at(oldest.seq), subject);
  }
}

function natural(value: unknown): number {
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= MAX_LINE_NUMBER)
    return value;
  throw new Error("no natural number");
}
