// One delivery of one message, whichever way it came, and the words by which NATS is told what became of it
// (https://docs.nats.io, "JetStream wire API": the reply subject of a delivery and its answers).

import { type Msg, nanos } from "@nats-io/transport-node";

export interface Delivery {
  subject: string;
  readonly messageId: string;
  body: string;
  /** Which time this is, from 1. */
  deliveries: number;
  /** Names the message among all: for the id of its dead letter. */
  key: string;
  /** The message is done with. */
  done(): void;
  /** It comes again, here or elsewhere, after `ms`. */
  again(ms: number): void;
  /** It is still being worked on. */
  working(): void;
}

const UTF8 = new TextDecoder();
const ID_HEADER = "Nats-Msg-Id";
/** `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.…`, with domain and account before the stream where there are any. */
const PLAIN = 9;

/** Reads what a pull brought; undefined if it is no delivery. */
export function deliveryOf(message: Msg): Delivery | undefined {
  const tokens = message.reply?.split(".") ?? [];
  if (tokens[0] !== "$JS" || tokens[1] !== "ACK" || tokens.length < PLAIN) return undefined;
  const [stream, , deliveries, sequence] = tokens.slice(tokens.length === PLAIN ? 2 : 4);
  let answered = false;
  const answer = (text: string, last: boolean) => {
    if (answered) return;
    answered = last;
    try {
      message.respond(text);
    } catch {
      // The connection is closed: the message comes again when its lease is over.
    }
  };
  return {
    subject: message.subject,
    // Read when it is asked for: only what goes wrong is told with its id.
    get messageId() {
      return messageIdOf(message);
    },
    body: textOf(message),
    deliveries: Number(deliveries),
    key: `${stream}-${sequence}`,
    done: () => answer("+ACK", true),
    again: (ms) => answer(ms > 0 ? `-NAK ${JSON.stringify({ delay: nanos(ms) })}` : "-NAK", true),
    working: () => answer("+WPI", false),
  };
}

export function messageIdOf(message: Msg): string {
  return message.headers?.get(ID_HEADER) ?? "";
}

/** The body; bytes that are no text become U+FFFD, and then it is no wake-up. */
export function textOf(message: Msg): string {
  return UTF8.decode(message.data);
}
