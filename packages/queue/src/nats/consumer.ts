// One consumer of the NATS queue: its slots, shared by all its subjects, and the outcome of each message.
// Work comes by pulls. Wake-ups for this node come on a plain subject and are kept only in this process.

import type { Clock, Logger, WakeMessage } from "@formation-mcp/contract";
import type { Subscription } from "@nats-io/transport-node";
import type { Consumer } from "../port.ts";
import { MAX_DELIVERIES, readWake, reasonOf } from "../rules.ts";
import type { WatchedConnection } from "./connection.ts";
import { type Delivery, messageIdOf, textOf } from "./delivery.ts";
import { NatsPull } from "./pull.ts";
import { type NatsStreams, WORK_SUBJECTS } from "./streams.ts";

export interface NatsConsumerDeps {
  link: WatchedConnection;
  streams: NatsStreams;
  subjects: string[];
  slots: number;
  handler: (message: WakeMessage, subject: string) => Promise<void>;
  missed: (() => void) | undefined;
  /** Stores a dead letter; rejects if that fails. */
  bury: (delivery: Delivery, reason: string) => Promise<void>;
  leaseMs: number;
  retryMs: number;
  clock: Clock;
  logger: Logger;
  onClose: (consumer: NatsConsumer) => void;
}

/** The most local messages that may wait for a slot. Any one of them wakes the node, so more are dropped. */
const MAX_LOCAL_MESSAGES = 1_000;

export class NatsConsumer implements Consumer {
  readonly #deps: NatsConsumerDeps;
  readonly #pulls: NatsPull[];
  readonly #subscriptions: Subscription[] = [];
  readonly #running = new Set<Promise<void>>();
  readonly #timers = new Set<NodeJS.Timeout>();
  readonly #forget: () => void;
  #waiting: (() => void)[] = [];
  #local = 0;
  #taken = 0;
  #closing = false;

  constructor(deps: NatsConsumerDeps) {
    this.#deps = deps;
    const { link, streams, logger, missed } = deps;
    const waitForSlot = () => this.#waitForSlot();
    const deliver = (delivery: Delivery) => this.#deliver(delivery);
    this.#forget = missed ? link.onBack(missed) : () => {};
    this.#pulls = deps.subjects
      .filter((subject) => WORK_SUBJECTS.includes(subject))
      .map((subject) => new NatsPull({ link, streams, subject, waitForSlot, deliver, logger }));
    for (const subject of deps.subjects) {
      if (!WORK_SUBJECTS.includes(subject)) this.#listen(subject);
    }
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#forget();
    for (const timer of this.#timers) clearTimeout(timer);
    if (!this.#deps.link.closed) for (const each of this.#subscriptions) each.unsubscribe();
    this.#wakeWaiters();
    await Promise.all(this.#pulls.map((pull) => pull.close()));
    while (this.#running.size > 0) await Promise.all(this.#running);
    this.#deps.onClose(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #listen(subject: string): void {
    const { link, logger } = this.#deps;
    let count = 0;
    const give = (messageId: string, body: string, deliveries: number) => {
      if (this.#closing || this.#local >= MAX_LOCAL_MESSAGES) return;
      this.#local++;
      const key = `${subject}-${messageId}-${++count}`;
      const done = () => this.#local--;
      const again = (ms: number) => {
        this.#local--;
        const timer = setTimeout(() => {
          this.#timers.delete(timer);
          give(messageId, body, deliveries + 1);
        }, ms).unref();
        this.#timers.add(timer);
      };
      void this.#deliver({ subject, messageId, body, deliveries, key, done, again, working: () => {} });
    };
    this.#subscriptions.push(
      link.connection.subscribe(subject, {
        callback: (error, message) => {
          if (error) logger.log("error", "NATS does not let us be woken.", { reason: error.message });
          else give(messageIdOf(message), textOf(message), 1);
        },
      }),
    );
  }

  async #waitForSlot(): Promise<void> {
    while (!this.#closing && this.#taken >= this.#deps.slots) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Takes a slot; false once the consumer is closing. */
  async #takeSlot(): Promise<boolean> {
    // Checks again after waiting, because another waiter may have taken the slot. Nothing is awaited between
    // check and use.
    while (!this.#closing && this.#taken >= this.#deps.slots) await this.#waitForSlot();
    if (this.#closing) return false;
    this.#taken++;
    return true;
  }

  #wakeWaiters(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }

  /** Resolves once the delivery is in a slot. Its lease is renewed until then. */
  async #deliver(delivery: Delivery): Promise<void> {
    const keep = setInterval(() => delivery.working(), this.#deps.leaseMs / 3).unref();
    if (!(await this.#takeSlot())) {
      clearInterval(keep);
      return delivery.again(0);
    }
    const done: Promise<void> = this.#handle(delivery).finally(() => {
      clearInterval(keep);
      this.#taken--;
      this.#running.delete(done);
      this.#wakeWaiters();
    });
    this.#running.add(done);
  }

  async #handle(delivery: Delivery): Promise<void> {
    const wake = readWake(delivery.body);
    if (typeof wake === "string") return this.#bury(delivery, wake);
    if (delivery.deliveries > MAX_DELIVERIES) {
      return this.#bury(delivery, `Whoever took it vanished, ${MAX_DELIVERIES} times.`);
    }
    try {
      await this.#deps.handler(wake, delivery.subject);
      delivery.done();
    } catch (error) {
      const reason = reasonOf(error);
      if (delivery.deliveries >= MAX_DELIVERIES) return this.#bury(delivery, reason);
      this.#say("A message's handler failed.", delivery, reason);
      delivery.again(this.#pause(delivery));
    }
  }

  async #bury(delivery: Delivery, reason: string): Promise<void> {
    this.#say("A message became a dead letter.", delivery, reason);
    try {
      await this.#deps.bury(delivery, reason);
      delivery.done();
    } catch (error) {
      this.#say("A dead letter could not be kept; its message will come again.", delivery, reasonOf(error));
      delivery.again(this.#pause(delivery));
    }
  }

  #pause(delivery: Delivery): number {
    return this.#deps.retryMs * 2 ** Math.min(delivery.deliveries - 1, MAX_DELIVERIES);
  }

  #say(what: string, { subject, messageId }: Delivery, reason: string): void {
    this.#deps.logger.log("warn", what, { subject, message_id: messageId.slice(0, 200), reason });
  }
}
