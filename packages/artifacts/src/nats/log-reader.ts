// Reads a log from its JetStream stream. The messages that a query needs are found backwards along their
// pointers, and a few are requested at a time.

import type { NumberedLine } from "../directory/log-files.ts";
import type { LogSource, StreamSource } from "../log-pages.ts";
import {
  indexSubject,
  type LogMessage,
  logSubject,
  type Pointer,
  pointersBack,
  readIndex,
  readMessage,
} from "./log-message.ts";
import type { NatsStream } from "./stream.ts";

/** The maximum number of requests in flight. */
const MAX_IN_FLIGHT = 4;

export async function createNatsLogSource(stream: NatsStream, name: string): Promise<LogSource> {
  const names = readIndex(await stream.last(indexSubject(name)));
  const look = async () => {
    const lasts = names.map(async (of) => {
      const subject = logSubject(name, of);
      const message = readMessage(await stream.last(subject), subject);
      return message && { of, subject, message };
    });
    return (await Promise.all(lasts)).filter((last) => last !== null);
  };
  const seen = await look();
  const newest = Math.max(0, ...seen.map(({ message }) => message.sure));
  // Looks a second time: a stream then has every line that another stream had confirmed in the first look.
  const streams = (seen.length > 1 ? await look() : seen).map(({ of, subject, message }) =>
    sourceOf(stream, subject, of, message),
  );
  return { newest, streams };
}

function sourceOf(stream: NatsStream, subject: string, name: string, newest: LogMessage): StreamSource {
  const back = () => pointersBack(stream, subject, newest);
  const messages = (pointers: AsyncIterable<Pointer> | Iterable<Pointer>) =>
    loaded(stream, subject, pointers, newest);
  return {
    stream: name,
    async *fromNumber(number) {
      const needed: Pointer[] = [];
      for await (const pointer of back()) {
        needed.push(pointer);
        if (pointer.first <= number) break;
      }
      for await (const { lines } of messages(needed.reverse())) {
        for (const line of lines) if (line.number >= number) yield line;
      }
    },
    async *fromEnd() {
      for await (const { lines } of messages(back())) yield* lines.toReversed();
    },
  };
}

/** Loads the messages that pointers name. Messages that were dropped meanwhile are left out. */
async function* loaded(
  stream: NatsStream,
  subject: string,
  pointers: AsyncIterable<Pointer> | Iterable<Pointer>,
  newest: LogMessage,
): AsyncGenerator<{ lines: NumberedLine[] }> {
  const coming: Promise<LogMessage | null>[] = [];
  for await (const { seq } of pointers) {
    const message =
      seq === newest.seq
        ? Promise.resolve(newest)
        : stream.at(seq).then((kept) => readMessage(kept, subject));
    message.catch(() => {});
    coming.push(message);
    if (coming.length < MAX_IN_FLIGHT) continue;
    const next = await coming.shift();
    if (next) yield next;
  }
  for (const message of coming) {
    const next = await message;
    if (next) yield next;
  }
}
