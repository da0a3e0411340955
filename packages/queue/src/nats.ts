// The queue of many machines: wake-ups in a JetStream work queue, events on plain subjects, dead letters in a
// stream of their own. The server may restart, be away for a while or lose its whole store. The caller owns
// the connection.

import {
  type ChangeEvent,
  type Clock,
  FormationError,
  type Id,
  type Logger,
  silentLogger,
  systemClock,
  type WakeMessage,
} from "@formation-mcp/contract";
import { type JetStreamClient, jetstream } from "@nats-io/jetstream";
import { headers, type NatsConnection } from "@nats-io/transport-node";
import { WatchedConnection } from "./nats/connection.ts";
import { NatsConsumer } from "./nats/consumer.ts";
import { newestLetters, storeLetter } from "./nats/dead-letters.ts";
import type { Delivery } from "./nats/delivery.ts";
import { NatsEvents } from "./nats/events.ts";
import { isMissing, NatsStreams, natsUnavailable, WORK_STREAM, WORK_SUBJECTS } from "./nats/streams.ts";
import type { ConsumeOptions, Consumer, DeadLetter, Queue } from "./port.ts";
import { bodyOf, checkConsumer, checkListener, reasonOf } from "./rules.ts";

export {
  inboxPrefixOf,
  type NatsPermissions,
  type NatsRole,
  natsUser,
  permissionsOf,
} from "./nats/permissions.ts";

export interface NatsQueueOptions {
  /** The process's connection. It reconnects without limit; the caller closes it after the queue. */
  connection: NatsConnection;
  /** How many servers keep each message. Default 1. */
  replicas?: number;
  /** Default file. */
  storage?: "file" | "memory";
  /**
   * Whether this process makes the streams and consumers; false for a worker, which may not. Default true.
   */
  manage?: boolean;
  clock?: Clock;
  logger?: Logger;
  /** A message's lease, in milliseconds; it is renewed while the handler runs. Default 30,000. */
  leaseMs?: number;
  /**
   * The back-off before a failed message is delivered again, in milliseconds; doubled each time. Default
   * 1,000.
   */
  retryMs?: number;
  /**
   * How long opening or publishing is retried while the server does not answer, in milliseconds. Default
   * 3,000.
   */
  patienceMs?: number;
  /**
   * How often a managing process checks that the streams and consumers exist, in milliseconds. Default
   * 10,000.
   */
  checkEveryMs?: number;
}

const CONTROL_SUBJECT = /^vm\.control\.[a-z0-9_]+$/;
const PUBLISH_TIMEOUT_MS = 1_000;
const RETRY_PAUSE_MS = 100;
const MAX_FLUSH_MS = 2_000;

/**
 * Opens the queue on a connection, and makes its streams and consumers if it manages them.
 * @throws FormationError `unavailable` if JetStream is off or does not answer, `forbidden` if this user lacks
 *   the permission.
 */
export async function openNatsQueue(options: NatsQueueOptions): Promise<Queue> {
  const queue = new NatsQueue(options);
  await queue.start();
  return queue;
}

class NatsQueue implements Queue {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: NatsQueueOptions;
  readonly #link: WatchedConnection;
  readonly #streams: NatsStreams;
  readonly #jetstream: JetStreamClient;
  readonly #consumers = new Set<NatsConsumer>();
  readonly #events: NatsEvents;
  #checkTimer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: NatsQueueOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#link = new WatchedConnection(options.connection);
    this.#events = new NatsEvents(this.#link, this.#logger);
    this.#jetstream = jetstream(options.connection);
    this.#streams = new NatsStreams(this.#link, {
      replicas: options.replicas ?? 1,
      storage: options.storage ?? "file",
      leaseMs: this.#leaseMs,
      manage: options.manage ?? true,
      logger: this.#logger,
    });
  }

  get #leaseMs(): number {
    return this.#options.leaseMs ?? 30_000;
  }

  async start(): Promise<void> {
    if (!this.#streams.manages) return;
    const end = performance.now() + this.#patienceMs;
    for (;;) {
      try {
        await this.#streams.prepare();
        break;
      } catch (error) {
        const failure = natsUnavailable(error, "The queue could not be made");
        if (performance.now() > end || failure.code !== "unavailable" || this.#link.closed) {
          this.#link.close();
          throw failure;
        }
        await pause(RETRY_PAUSE_MS);
      }
    }
    const check = () => {
      if (!this.#link.up) return;
      this.#streams.prepare().catch((error) =>
        this.#logger.log("warn", "The queue's streams could not be looked after.", {
          reason: reasonOf(error),
        }),
      );
    };
    // A server that comes back may have lost everything.
    this.#link.onBack(check);
    this.#checkTimer = setInterval(check, this.#options.checkEveryMs ?? 10_000).unref();
  }

  async publish(subject: string, messageId: string, message: WakeMessage): Promise<void> {
    const body = bodyOf(subject, messageId, message);
    if (CONTROL_SUBJECT.test(subject)) return this.#publishPlain(subject, messageId, body);
    if (!WORK_SUBJECTS.includes(subject)) throw noSubject(subject);
    await this.#store(subject, messageId, body, WORK_STREAM);
  }

  async consume(
    subjects: string[],
    options: ConsumeOptions,
    handler: (message: WakeMessage, subject: string) => Promise<void>,
  ): Promise<Consumer> {
    checkConsumer(subjects, options.slots);
    for (const subject of subjects) {
      if (!CONTROL_SUBJECT.test(subject) && !WORK_SUBJECTS.includes(subject)) throw noSubject(subject);
    }
    this.#requireOpen();
    const consumer = new NatsConsumer({
      link: this.#link,
      streams: this.#streams,
      subjects: [...new Set(subjects)],
      slots: options.slots,
      handler,
      missed: options.missed,
      bury: (delivery, reason) => this.#bury(delivery, reason),
      leaseMs: this.#leaseMs,
      retryMs: this.#options.retryMs ?? 1_000,
      clock: this.#clock,
      logger: this.#logger,
      onClose: (closed) => this.#consumers.delete(closed),
    });
    this.#consumers.add(consumer);
    await this.#link.flushed(MAX_FLUSH_MS);
    return consumer;
  }

  async emit(event: ChangeEvent): Promise<void> {
    if (!this.#closed) this.#events.emit(event);
  }

  async subscribe(listener: (event: ChangeEvent) => void, node?: Id<"node">): Promise<AsyncDisposable> {
    this.#requireOpen();
    checkListener(node);
    return this.#events.subscribe(listener, node, MAX_FLUSH_MS);
  }

  async deadLetters(limit: number): Promise<DeadLetter[]> {
    this.#requireOpen();
    try {
      return await newestLetters(await this.#streams.manager(), Math.max(0, Math.trunc(limit)));
    } catch (error) {
      if (isMissing(error)) return [];
      throw natsUnavailable(error, "Dead letters could not be read");
    }
  }

  /** NATS removes old messages itself; this makes streams and consumers again that were deleted. */
  async sweep(): Promise<void> {
    this.#requireOpen();
    if (!this.#streams.manages) return;
    await this.#streams.prepare().catch((error) => {
      throw natsUnavailable(error, "The queue's streams could not be looked after");
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#checkTimer);
    this.#events.close();
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()));
    this.#link.close();
  }

  #requireOpen(): void {
    if (this.#closed || this.#link.closed) throw new FormationError("unavailable", "The queue is closed.");
  }

  /** Sends a message on a plain subject, which only current listeners receive. */
  async #publishPlain(subject: string, messageId: string, body: string): Promise<void> {
    this.#requireOpen();
    const head = headers();
    head.set("Nats-Msg-Id", messageId);
    try {
      this.#link.connection.publish(subject, body, { headers: head });
    } catch (error) {
      throw natsUnavailable(error, "A node could not be woken");
    }
    const sent = await this.#link.flushed(Math.min(MAX_FLUSH_MS, this.#patienceMs));
    if (!sent) throw natsUnavailable(undefined, "A node could not be woken");
  }

  get #patienceMs(): number {
    return this.#options.patienceMs ?? 3_000;
  }

  /** Stores a message in a stream; retries while the server is away or while its streams are made again. */
  async #store(subject: string, messageId: string, body: string, stream: string): Promise<void> {
    const end = performance.now() + this.#patienceMs;
    const left = () => end - performance.now();
    for (;;) {
      this.#requireOpen();
      // The connection drops what is sent while it is down, so this waits until it is back.
      if (!this.#link.up) await this.#link.back(left());
      try {
        const timeout = Math.max(1, Math.min(PUBLISH_TIMEOUT_MS, left()));
        await this.#jetstream.publish(subject, body, {
          msgID: messageId,
          timeout,
          expect: { streamName: stream },
        });
        return;
      } catch (error) {
        const failure = natsUnavailable(error, "A message could not be stored");
        if (failure.code !== "unavailable" || left() <= RETRY_PAUSE_MS) throw failure;
        await pause(RETRY_PAUSE_MS);
        if (this.#streams.manages && this.#link.up) await this.#streams.prepare().catch(() => {});
      }
    }
  }

  #bury(delivery: Delivery, reason: string): Promise<void> {
    return storeLetter(delivery, reason, this.#clock.now(), (...letter) => this.#store(...letter));
  }
}

function noSubject(subject: string): FormationError {
  return new FormationError("invalid", `There is no subject ${subject}.`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
