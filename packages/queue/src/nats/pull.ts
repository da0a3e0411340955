// Pulls one subject's messages from NATS, one at a time. A request is pending whenever there is a free slot.
// It is repeated when it expires, when the connection was away, and when the consumer was made again. NATS
// 2.9 gives no answer to a request for a missing consumer, so after silence the consumer is checked.

import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "@formation-mcp/contract";
import { createInbox, type Msg, nanos, type Subscription } from "@nats-io/transport-node";
import { reasonOf } from "../rules.ts";
import type { WatchedConnection } from "./connection.ts";
import { type Delivery, deliveryOf } from "./delivery.ts";
import { consumerOf, type NatsStreams, WORK_STREAM } from "./streams.ts";

export interface NatsPullDeps {
  link: WatchedConnection;
  streams: NatsStreams;
  subject: string;
  /** Resolves when there is a free slot. */
  waitForSlot: () => Promise<void>;
  /** Handles a message; resolves when it is in a slot. */
  deliver: (delivery: Delivery) => Promise<void>;
  logger: Logger;
}

/**
 * How long a request waits at the server, and how much longer for its end to arrive. If a server of the
 * cluster other than the connected one goes away, messages may be delayed by this time.
 */
const REQUEST_EXPIRES_MS = 5_000;
const REQUEST_GRACE_MS = 1_500;
/** The pause while a consumer is missing or the server does not answer. */
const RETRY_AFTER_ERROR_MS = 500;
const MAX_CLOSE_MS = 1_000;

/** Why a request ended: a message came, it expired, or the consumer must be checked. */
type PullEnd = "message" | "over" | "doubt";

export class NatsPull {
  readonly #deps: NatsPullDeps;
  readonly #closing = new AbortController();
  readonly #inbox: string;
  readonly #subscription: Subscription;
  readonly #arrived: Delivery[] = [];
  readonly #forget: () => void;
  readonly #running: Promise<void>;
  #request = 0;
  #end: (why: PullEnd) => void = () => {};

  constructor(deps: NatsPullDeps) {
    this.#deps = deps;
    const { connection } = deps.link;
    // The one prefix that a least-privilege user may subscribe to. The library does not export it.
    this.#inbox = createInbox((connection as { options?: { inboxPrefix?: string } }).options?.inboxPrefix);
    this.#subscription = connection.subscribe(`${this.#inbox}.*`, {
      callback: (error, message) => this.#hear(error, message),
    });
    this.#forget = deps.link.onBack(() => this.#end("doubt"));
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
    if (this.#deps.link.up) {
      const drained = this.#subscription.drain().catch(() => {});
      await Promise.race([drained, this.#deps.link.flushed(MAX_CLOSE_MS)]);
    }
    // A remaining subscription would be made again at each reconnect and receive answers that nothing reads.
    if (!this.#deps.link.closed && !this.#subscription.isClosed()) this.#subscription.unsubscribe();
    for (const delivery of this.#arrived.splice(0)) delivery.again(0);
  }

  async #run(): Promise<void> {
    const { link, waitForSlot, deliver } = this.#deps;
    const closed = () => this.#closing.signal.aborted || link.closed;
    let doubt = true;
    while (!closed()) {
      if (doubt && !(await this.#ready())) continue;
      doubt = false;
      await waitForSlot();
      if (closed()) return;
      if (this.#arrived.length === 0) doubt = (await this.#ask()) === "doubt";
      const delivery = this.#arrived.shift();
      if (delivery) await deliver(delivery);
    }
  }

  async #ready(): Promise<boolean> {
    const { streams, subject, logger } = this.#deps;
    try {
      if (await streams.ready(subject)) return true;
    } catch (error) {
      logger.log("debug", "NATS does not say whether there is work.", { subject, reason: reasonOf(error) });
    }
    await delay(RETRY_AFTER_ERROR_MS, undefined, { signal: this.#closing.signal }).catch(() => {});
    return false;
  }

  async #ask(): Promise<PullEnd> {
    const { link, subject } = this.#deps;
    const ended = new Promise<PullEnd>((resolve) => {
      this.#end = resolve;
    });
    const silence = setTimeout(() => this.#end("doubt"), REQUEST_EXPIRES_MS + REQUEST_GRACE_MS);
    try {
      link.connection.publish(
        `$JS.API.CONSUMER.MSG.NEXT.${WORK_STREAM}.${consumerOf(subject)}`,
        JSON.stringify({ batch: 1, expires: nanos(REQUEST_EXPIRES_MS) }),
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
      this.#deps.logger.log("error", "NATS does not let us receive work.", { reason: error.message });
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
