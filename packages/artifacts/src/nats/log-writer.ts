// Appends to logs in NATS. What is known about a log's end is compared with the server before each append,
// and each message names its predecessor (compare-and-set), so that a second writer is noticed. If an append
// failed and the caller retries with the same line objects, lines that were already stored are not stored
// again.

import { createKeyedLock } from "@formation-mcp/base";
import { FormationError, LIMITS } from "@formation-mcp/contract";
import { nuid } from "@nats-io/transport-node";
import { checkLogName, checkStream } from "../directory/log-files.ts";
import type { LogLine } from "../port.ts";
import {
  indexSubject,
  logSubject,
  MAX_STREAMS_PER_LOG,
  type Pointer,
  pointersBack,
  readIndex,
  readMessage,
  writeIndex,
  writeMessage,
} from "./log-message.ts";
import { type NatsStream, OVERTAKEN } from "./stream.ts";

const MAX_KNOWN_LOGS = 1_000;
const MAX_TRIES = 5;
/** The size of a message before its last line is added. */
const MAX_BATCH_BYTES = 96 * 1024;
/** The size to which a stream is cut when it exceeds its limit, so that not every append has to cut. */
const TRIMMED_STREAM_BYTES = (LIMITS.logBytesPerStream / 8) * 7;

interface StreamEnd {
  /** The sequence number of the subject's last message, 0 for none. */
  seq: number;
  from: number;
  end: number;
  /** Newest first. Older messages than these may exist. */
  known: Pointer[];
}

interface LogEnd {
  /** The sequence number of its index message, 0 for none. */
  index: number;
  /** Every line up to this number is stored. */
  sure: number;
  next: number;
  streams: Map<string, StreamEnd>;
}

/** A message that was sent but not acknowledged. The server may have it or may still receive it. */
interface UnacknowledgedMessage {
  id: string;
  lines: LogLine[];
}

export class NatsLogWriter {
  readonly #stream: NatsStream;
  readonly #ends = new Map<string, LogEnd>();
  readonly #unsure = new Map<string, UnacknowledgedMessage[]>();
  readonly #locks = createKeyedLock();
  /** Lines of a failed append: those that are stored, and the numbers meant for the others. */
  readonly #stored = new WeakSet<LogLine>();
  readonly #meant = new WeakMap<LogLine, number>();

  constructor(stream: NatsStream) {
    this.#stream = stream;
  }

  async append(name: string, lines: LogLine[]): Promise<void> {
    checkLogName(name);
    for (const line of lines) checkStream(line.stream);
    if (lines.length === 0) return;
    await this.#locks.run(name, async () => {
      let end = await this.#current(name);
      let left = lines.filter((line) => !this.#stored.delete(line));
      for (let tries = 0; left.length > 0; ) {
        const batch = firstOf(left);
        try {
          await this.#write(name, end, batch);
          left = left.slice(batch.length);
          tries = 0;
        } catch (error) {
          this.#ends.delete(name);
          if (error !== OVERTAKEN) {
            const waiting = new Set(left);
            for (const line of lines) if (!waiting.has(line)) this.#stored.add(line);
            throw error;
          }
          if (++tries > MAX_TRIES)
            throw new FormationError("unavailable", "Another process writes to the same log.");
          end = await this.#find(name);
          left = left.filter((line) => !this.#stored.delete(line));
        }
      }
    });
  }

  idle(): Promise<void> {
    return this.#locks.idle();
  }

  /** Stores some lines, one message per stream. Only the last message says that all are stored. */
  async #write(name: string, end: LogEnd, batch: LogLine[]): Promise<void> {
    const parts = new Map<string, { number: number; line: LogLine }[]>();
    for (const line of batch) {
      const meant = this.#meant.get(line) ?? 0;
      const number = meant > end.sure ? meant : end.next;
      end.next = Math.max(end.next, number + 1);
      this.#meant.set(line, number);
      parts.set(line.stream, [...(parts.get(line.stream) ?? []), { number, line }]);
    }
    await this.#announce(name, end, [...parts.keys()]);
    let count = 0;
    for (const [stream, part] of parts) {
      const ending = end.streams.get(stream);
      if (!ending) continue;
      const sure = ++count === parts.size ? end.next - 1 : end.sure;
      const head = {
        id: nuid.next(),
        sure,
        from: ending.from,
        first: part[0]?.number ?? end.next,
        offset: ending.end,
        before: ending.known,
      };
      const subject = logSubject(name, stream);
      const { data, end: offset } = writeMessage(head, part);
      const lines = part.map(({ line }) => line);
      this.#unsure.set(name, [...(this.#unsure.get(name) ?? []), { id: head.id, lines }]);
      const seq = await this.#stream.publish(subject, data, head.id, ending.seq);
      this.#unsure.delete(name);
      for (const line of lines) this.#stored.add(line);
      ending.known.unshift({ seq, first: head.first, offset: head.offset });
      ending.seq = seq;
      ending.end = offset;
      end.sure = sure;
      await this.#dropOldest(subject, ending);
    }
    for (const line of batch) {
      this.#stored.delete(line);
      this.#meant.delete(line);
    }
  }

  /** Adds streams to the index before their first message. */
  async #announce(name: string, end: LogEnd, streams: string[]): Promise<void> {
    const fresh = streams.filter((stream) => !end.streams.has(stream));
    if (fresh.length === 0) return;
    if (end.streams.size + fresh.length > MAX_STREAMS_PER_LOG) {
      throw new FormationError("limit", `A log has at most ${MAX_STREAMS_PER_LOG} streams.`);
    }
    const subject = indexSubject(name);
    const index = writeIndex([...end.streams.keys(), ...fresh]);
    const former = end.index;
    end.index = await this.#stream.publish(subject, index, nuid.next(), former);
    if (former > 0) await this.#stream.purge(subject, end.index);
    for (const stream of fresh) end.streams.set(stream, { seq: 0, from: 0, end: 0, known: [] });
  }

  async #dropOldest(subject: string, ending: StreamEnd): Promise<void> {
    if (ending.end - ending.from <= LIMITS.logBytesPerStream) return;
    const isKept = ({ offset }: Pointer) => offset >= ending.end - TRIMMED_STREAM_BYTES;
    const oldestKnown = ending.known.at(-1);
    if (oldestKnown && isKept(oldestKnown)) await this.#lookBack(subject, ending);
    const kept = ending.known.filter(isKept);
    const oldest = kept.at(-1);
    if (!oldest) return;
    await this.#stream.purge(subject, oldest.seq);
    ending.known = kept;
    ending.from = oldest.offset;
  }

  /** A writer that takes over a log knows only what the log's last messages say. */
  async #lookBack(subject: string, ending: StreamEnd): Promise<void> {
    const newest = readMessage(await this.#stream.at(ending.seq), subject);
    if (!newest) return;
    ending.known = [];
    for await (const { seq, first, offset } of pointersBack(this.#stream, subject, newest)) {
      ending.known.push({ seq, first, offset });
    }
  }

  /** The known end of a log if it is still current, else the end read from the server. */
  async #current(name: string): Promise<LogEnd> {
    const known = this.#ends.get(name);
    return known && !this.#unsure.has(name) && (await this.#isAsKnown(name, known))
      ? known
      : await this.#find(name);
  }

  async #isAsKnown(name: string, known: LogEnd): Promise<boolean> {
    const expected: [string, number][] = [[indexSubject(name), known.index]];
    for (const [stream, { seq }] of known.streams) expected.push([logSubject(name, stream), seq]);
    const same = expected.map(
      async ([subject, seq]) => ((await this.#stream.last(subject))?.seq ?? 0) === seq,
    );
    return (await Promise.all(same)).every(Boolean);
  }

  async #find(name: string): Promise<LogEnd> {
    const index = await this.#stream.last(indexSubject(name));
    const end: LogEnd = { index: index?.seq ?? 0, sure: 0, next: 1, streams: new Map() };
    const unsure = this.#unsure.get(name) ?? [];
    for (const stream of readIndex(index)) {
      const subject = logSubject(name, stream);
      const kept = await this.#stream.last(subject);
      const message = readMessage(kept, subject);
      const known = message ? [message, ...message.before] : [];
      end.streams.set(stream, {
        seq: kept?.seq ?? 0,
        from: message?.from ?? 0,
        end: message?.end ?? 0,
        known: known.map(({ seq, first, offset }) => ({ seq, first, offset })),
      });
      end.sure = Math.max(end.sure, message?.sure ?? 0);
      end.next = Math.max(end.next, end.sure + 1, (message?.lines.at(-1)?.number ?? 0) + 1);
      for (const { id, lines } of unsure) {
        if (id === message?.id) for (const line of lines) this.#stored.add(line);
      }
    }
    this.#unsure.delete(name);
    this.#ends.set(name, end);
    const [oldest] = this.#ends.keys();
    if (this.#ends.size > MAX_KNOWN_LOGS && oldest !== undefined) this.#ends.delete(oldest);
    return end;
  }
}

/** The first lines that fit into a message, at least one. */
function firstOf(lines: LogLine[]): LogLine[] {
  let bytes = 0;
  for (const [index, { text }] of lines.entries()) {
    bytes += 32 + Math.min(text.length, LIMITS.logLineBytes) * 2;
    if (bytes > MAX_BATCH_BYTES && index > 0) return lines.slice(0, index);
  }
  return lines;
}
