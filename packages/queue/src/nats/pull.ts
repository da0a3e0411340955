// Pulls one subject's messages from NATS, one at a time. A request is pending whenever there is a free slot.
// It is repeated when it expires, when the connection was away, and when the consumer was made again. NATS
// 2.9 gives no answer to a request for a missing consumer, so after silence the consumer is checked.

import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@formation-mcp/contract";
import { createInbox, type Msg, nanos, type Subscription } from "@nats-io/transport-node";
import { reasonOf } from "../rules.ts";
import type { NatsLink } from "./connection.ts";
import { type Delivery, deliveryOf } from "./delivery.ts";
import { consumerOf, type NatsStreams, WORK_STREAM } from "./streams.ts";

export interface PullOptions {
  link: NatsLink;
  streams: NatsStreams;
  subject: string;
  /** Resolves when there is a free slot. */
  room: () => Promise<void>;
  /** Handles a message; resolves when it is in a slot. */
  hand: (delivery: Delivery) => Promise<void>;
  logger: Logger;
}

/**
 * How long a request waits at the server, and how much longer for its end to arrive. If a server of the
 * cluster other than the connected one goes away, messages may be delayed by this time.
 */
const REQUEST_MS = 5_000;
const GRACE_MS = 1_500;
/** The pause while a consumer is missing or the server does not answer. */
const TROUBLE_MS = 500;
const CLOSE_MS = 1_000;

/** Why a request ended: a message came, it expired, or the consumer must be checked. */
type End = "message" | "over" | "doubt";

export class NatsPull {
  readonly #options: PullOptions;
  readonly #closing = new AbortController();
  readonly #inbox: string;
  readonly #subscription: Subscription;
  readonly #arrived: Delivery[] = [];
  readonly #forget: () => void;
  readonly #running: Promise<void>;
  #request = 0;
  #end: (why: End) => void = () => {};

  constructor(options: PullOptions) {
    this.#options = options;
    const { connection } = options.link;
    // The one prefix that a least-privilege user may subscribe to. The library does not export it.
    this.#inbox = createInbox((connection as { options?: { inboxPrefix?: string } }).options?.inboxPrefix);
    this.#subscription = connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => this.#hear(error, message),
    });
    this.#forget = options.link.onBack(() => this.#end("doubt"));
    this.#running = this.#run();
  }

  /** Stops pulling. A message already on its way is returned at once. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return this.#running;
    this.#closing.abort();
    this.#forget();
    this.#end("over");
    await this.#running;
    // Drains, so that messages sent before the server noticed the end need not wait for their lease to
    // expire.
    if (this.#options.link.up) {
      const drained = this.#subscription.drain().catch(() => {});
      await Promise.race([drained, this.#options.link.settled(CLOSE_MS)]);
    }
    // A remaining subscription would be made again at each reconnect and receive answers that nothing reads.
    if (!this.#options.link.closed && !this.#subscription.isClosed()) this.#subscription.unsubscribe();
    for (const delivery of this.#arrived.splice(0)) delivery.again(0);
  }

  async #run(): Promise<void> {
    const { link, room, hand } = this.#options;
    const closed = () => this.#closing.signal.aborted || link.closed;
    let doubt = true;
    while (!closed()) {
      if (doubt && !(await this.#ready())) continue;
      doubt = false;
      await room();
      if (closed()) return;
      if (this.#arrived.length === 0) doubt = (await this.#ask()) === "doubt";
      const delivery = this.#arrived.shift();
      if (delivery) await hand(delivery);
    }
  }

  async #ready(): Promise<boolean> {
    const { streams, subject, logger } = this.#options;
    try {
      if (await streams.ready(subject)) return true;
    } catch (error) {
      logger.log("debug", "NATS does not say whether there is work.", { subject, reason: reasonOf(error) });
    }
    await delay(TROUBLE_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
    return false;
  }

  async #ask(): Promise<End> {
    const { link, subject } = this.#options;
    const ended = new Promise<End>((resolve) => {
      this.#end = resolve;
    });
    const silence = setTimeout(() => this.#end("doubt"), REQUEST_MS + GRACE_MS);
    try {
      link.connection.publish(
        `$JS.API.CONSUMER.MSG.NEXT.${WORK_STREAM}.${consumerOf(subject)}`,
        JSON.stringify({ batch: 1, expires: nanos(REQUEST_MS) }),
        { reply: `${this.#inbox}.${++this.#request}` },
      );
      return await ended;
    } catch {
      return "doubt";
    } finally {
      clearTimeout(silence);
      this.#end = () => {};
    }
  }

  #hear(error: Error | null, message: Msg): void {
    if (error) {
      this.#options.logger.log("error", "NATS does not let us receive work.", { reason: error.message });
      this.#end("doubt");
      return;
    }
    const delivery = deliveryOf(message);
    if (delivery) {
      this.#arrived.push(delivery);
      this.#end("message");
      return;
    }
    // Ignores a status message for an earlier request.
    if (!message.subject.endsWith(`.${this.#request}`)) return;
    const code = message.headers?.code ?? 0;
    if (code === 404 || code === 408) this.#end("over");
    else if (code !== 100) this.#end("doubt");
  }
}
