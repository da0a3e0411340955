// One consumer of the embedded queue: fills its slots with messages, renews their leases while handlers run,
// and ends each delivery when its handler is done. This folder knows how the queue is kept in one SQLite
// file.

import { randomBytes } from "node:crypto";
import { setImmediate as turn } from "node:timers/promises";
import type { Clock, Logger, WakeMessage } from "@formation-mcp/contract";
import type { Consumer } from "../port.ts";
import { MAX_DELIVERIES, readWake, reasonOf } from "../rules.ts";
import {
  deleteMessage,
  hasMessage,
  type Message,
  moveToDeadLetters,
  nextVisible,
  releaseMessage,
  renewLease,
  takeMessage,
} from "./messages.ts";
import type { QueueFile } from "./queue-file.ts";

export interface EmbeddedConsumerDeps {
  subjects: string[];
  slots: number;
  handler: (message: WakeMessage, subject: string) => Promise<void>;
  missed: (() => void) | undefined;
  leaseMs: number;
  retryMs: number;
  clock: Clock;
  logger: Logger;
  onClose: (consumer: EmbeddedConsumer) => void;
}

/** The longest wait of a timer, so that a changed system clock does not delay a message for ever. */
const MAX_TIMER_MS = 60_000;
/** The pause after the file could not be used. */
const RETRY_AFTER_ERROR_MS = 1_000;

export class EmbeddedConsumer implements Consumer {
  readonly #file: QueueFile;
  readonly #deps: EmbeddedConsumerDeps;
  readonly #holder = randomBytes(9).toString("base64url");
  readonly #running = new Set<Promise<void>>();
  #filling: Promise<void> | undefined;
  #again = false;
  #closing = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(file: QueueFile, deps: EmbeddedConsumerDeps) {
    this.#file = file;
    this.#deps = deps;
  }

  /** Takes messages until the slots are full or none is left. Concurrent calls share one run. */
  kick(): void {
    if (this.#closing || this.#running.size >= this.#deps.slots) return;
    this.#again = true;
    this.#filling ??= this.#fill().finally(() => {
      this.#filling = undefined;
      // kick() may have been called after the last check.
      if (this.#again) this.kick();
    });
  }

  /** The file was replaced, so its messages are lost. */
  missed(): void {
    if (!this.#closing) this.#deps.missed?.();
  }

  async close(): Promise<void> {
    this.#closing = true;
    clearTimeout(this.#timer);
    await this.#filling;
    while (this.#running.size > 0) await Promise.all(this.#running);
    this.#deps.onClose(this);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #fill(): Promise<void> {
    const { subjects, slots, clock, leaseMs, logger } = this.#deps;
    try {
      while (this.#again && !this.#closing) {
        this.#again = false;
        while (!this.#closing && this.#running.size < slots) {
          if (!(await this.#file.read((at) => hasMessage(at, subjects, clock.now())))) break;
          const now = clock.now();
          const message = await this.#file.write((at) =>
            takeMessage(at, subjects, this.#holder, now, leaseMs),
          );
          if (!message) break;
          const done: Promise<void> = this.#handle(message).finally(() => {
            this.#running.delete(done);
            this.kick();
          });
          this.#running.add(done);
          // SQLite is synchronous, so taking many messages in a row would block the event loop.
          await turn();
        }
        this.#schedule(await this.#file.read((at) => nextVisible(at, subjects)));
      }
    } catch (error) {
      this.#again = false;
      if (this.#closing) return;
      logger.log("warn", "The queue cannot be read; trying again.", { reason: reasonOf(error) });
      this.#wakeIn(RETRY_AFTER_ERROR_MS);
    }
  }

  #schedule(visibleAt: number | undefined): void {
    clearTimeout(this.#timer);
    if (visibleAt === undefined || this.#running.size >= this.#deps.slots) return;
    this.#wakeIn(visibleAt - this.#deps.clock.now() + 1);
  }

  #wakeIn(ms: number): void {
    clearTimeout(this.#timer);
    if (this.#closing) return;
    this.#timer = setTimeout(() => this.kick(), Math.min(Math.max(ms, 1), MAX_TIMER_MS)).unref();
  }

  async #handle(message: Message): Promise<void> {
    const { clock, leaseMs, logger } = this.#deps;
    const wake = readWake(message.body);
    if (typeof wake === "string") return this.#settle(message, wake);
    if (message.deliveries > MAX_DELIVERIES) {
      return this.#settle(message, `Whoever took it vanished, ${MAX_DELIVERIES} times.`);
    }
    const keep = setInterval(() => {
      this.#file
        .write((at) => renewLease(at, message.seq, this.#holder, clock.now() + leaseMs))
        .catch((error) =>
          logger.log("warn", "A message's lease was not prolonged.", { reason: reasonOf(error) }),
        );
    }, leaseMs / 3).unref();
    let failure: { error: unknown } | undefined;
    try {
      await this.#deps.handler(wake, message.subject);
    } catch (error) {
      failure = { error };
    } finally {
      clearInterval(keep);
    }
    await this.#settle(message, failure);
  }

  /**
   * Ends one delivery. `undefined` means success; a text makes the message a dead letter with that reason.
   */
  async #settle(message: Message, outcome: { error: unknown } | string | undefined): Promise<void> {
    const { clock, retryMs, logger } = this.#deps;
    const reason = typeof outcome === "string" ? outcome : outcome && reasonOf(outcome.error);
    const last = typeof outcome === "string" || message.deliveries >= MAX_DELIVERIES;
    if (reason !== undefined) {
      logger.log("warn", last ? "A message became a dead letter." : "A message's handler failed.", {
        subject: message.subject,
        message_id: message.message_id,
        reason,
      });
    }
    try {
      await this.#file.write((at) => {
        if (reason === undefined) return deleteMessage(at, message.seq, this.#holder);
        if (last) return moveToDeadLetters(at, message, this.#holder, reason, clock.now());
        const pause = retryMs * 2 ** (message.deliveries - 1);
        return releaseMessage(at, message.seq, this.#holder, clock.now() + pause);
      });
    } catch (error) {
      logger.log("warn", "A message could not be settled; it will come again.", { reason: reasonOf(error) });
    }
  }
}
