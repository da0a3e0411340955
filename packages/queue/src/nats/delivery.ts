// One delivery of one message, from a pull or a plain subject, and the replies that tell NATS its outcome
// (https://docs.nats.io, "JetStream wire API": the reply subject of a delivery and its answers).

import { type Msg, nanos } from "@nats-io/transport-node";

export interface Delivery {
  subject: string;
  readonly messageId: string;
  body: string;
  /** The number of this delivery, from 1. */
  deliveries: number;
  /** Identifies the message, for the id of its dead letter. */
  key: string;
  /** Acknowledges the message. */
  done(): void;
  /** Requests another delivery, here or elsewhere, after `ms` milliseconds. */
  again(ms: number): void;
  /** Renews the lease. */
  working(): void;
}

const UTF8 = new TextDecoder();
const ID_HEADER = "Nats-Msg-Id";
/**
 * The number of tokens in `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.…`. With a domain and an
 * account, these come before the stream.
 */
const PLAIN_REPLY_TOKENS = 9;

/** Reads a delivery from a pulled message; undefined if it is none. */
export function deliveryOf(message: Msg): Delivery | undefined {
  const tokens = message.reply?.split(".") ?? [];
  if (tokens[0] !== "$JS" || tokens[1] !== "ACK" || tokens.length < PLAIN_REPLY_TOKENS) return undefined;
  const [stream, , deliveries, sequence] = tokens.slice(tokens.length === PLAIN_REPLY_TOKENS ? 2 : 4);
  let answered = false;
  const answer = (text: string, last: boolean) => {
    if (answered) return;
    answered = last;
    try {
      message.respond(text);
    } catch {
      // The connection is closed: the message is delivered again when its lease expires.
    }
  };
  return {
    subject: message.subject,
    // Computed on demand: the id is only needed when something fails.
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

/** The body. Bytes that are not UTF-8 become U+FFFD, and then it is no wake-up. */
export function textOf(message: Msg): string {
  return UTF8.decode(message.data);
}
