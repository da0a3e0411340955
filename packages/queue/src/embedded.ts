// The queue of one machine: a SQLite file that all processes of one user share. A watch on its write-ahead
// log wakes the other processes. Deleting the file at any time loses only wake-ups and events.

import {
  type ChangeEvent,
  type Clock,
  type Id,
  type Logger,
  silentLogger,
  systemClock,
  type WakeMessage,
} from "@formation-mcp/contract";
import { EmbeddedConsumer } from "./embedded/consumer.ts";
import { EventListeners, emitEvent, pruneEvents } from "./embedded/events.ts";
import { deadLetters, pruneMessages, putMessage } from "./embedded/messages.ts";
import { type OpenDatabase, QueueFile } from "./embedded/queue-file.ts";
import { WalWatch } from "./embedded/wal-watch.ts";
import type { ConsumeOptions, Consumer, DeadLetter, Queue } from "./port.ts";
import { bodyOf, checkConsumer, checkListener, reasonOf } from "./rules.ts";

export interface EmbeddedQueueOptions {
  /** The queue's own SQLite file, created with mode 0600 if it is missing. Its directory must exist. */
  path: string;
  clock?: Clock;
  logger?: Logger;
  /** A message's lease, in milliseconds; it is renewed while the handler runs. Default 30,000. */
  leaseMs?: number;
  /**
   * The back-off before a failed message is delivered again, in milliseconds; doubled each time. Default
   * 1,000.
   */
  retryMs?: number;
  /** How often to poll, in milliseconds, in addition to the watch; 0 never. Default 1,000. */
  pollMs?: number;
}

/**
 * Opens the embedded queue. Its timers do not keep the process alive.
 * @throws FormationError `unavailable` if the file cannot be used, `invalid` if it is another program's
 *   database.
 */
export async function openEmbeddedQueue(options: EmbeddedQueueOptions): Promise<Queue> {
  const queue = new EmbeddedQueue(options);
  await queue.start();
  return queue;
}

class EmbeddedQueue implements Queue {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #options: EmbeddedQueueOptions;
  readonly #file: QueueFile;
  readonly #watch: WalWatch;
  readonly #events: EventListeners;
  readonly #consumers = new Set<EmbeddedConsumer>();
  #version = -1;
  #reopening = false;

  constructor(options: EmbeddedQueueOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#events = new EventListeners(this.#logger);
    this.#watch = new WalWatch(() => this.#checkForCommits(), options.pollMs ?? 1000, this.#logger);
    this.#file = new QueueFile(options.path, this.#logger, () => {
      this.#version = -1;
      this.#watch.start(this.#file.walPath);
    });
  }

  async start(): Promise<void> {
    this.#events.deliver(await this.#file.ensure());
  }

  async publish(subject: string, messageId: string, message: WakeMessage): Promise<void> {
    const body = bodyOf(subject, messageId, message);
    await this.#file.write((file) => putMessage(file, subject, messageId, body, this.#clock.now()));
    this.#kick();
  }

  async consume(
    subjects: string[],
    options: ConsumeOptions,
    handler: (message: WakeMessage, subject: string) => Promise<void>,
  ): Promise<Consumer> {
    checkConsumer(subjects, options.slots);
    await this.#file.ensure();
    const consumer = new EmbeddedConsumer(this.#file, {
      subjects: [...new Set(subjects)],
      slots: options.slots,
      handler,
      missed: options.missed,
      leaseMs: this.#options.leaseMs ?? 30_000,
      retryMs: this.#options.retryMs ?? 1_000,
      clock: this.#clock,
      logger: this.#logger,
      onClose: (closed) => this.#consumers.delete(closed),
    });
    this.#consumers.add(consumer);
    consumer.kick();
    return consumer;
  }

  async emit(event: ChangeEvent): Promise<void> {
    try {
      await this.#file.write((file) => emitEvent(file, event, this.#clock.now()));
      this.#deliver();
    } catch (error) {
      this.#logger.log("warn", "An event was lost.", { id: event.id, reason: reasonOf(error) });
    }
  }

  async subscribe(listener: (event: ChangeEvent) => void, node?: Id<"node">): Promise<AsyncDisposable> {
    checkListener(node);
    // Each subscription is separate, even if the same function subscribes twice.
    const own = (event: ChangeEvent) => listener(event);
    this.#events.add(await this.#file.ensure(), own, node);
    return { [Symbol.asyncDispose]: async () => this.#events.remove(own) };
  }

  async deadLetters(limit: number): Promise<DeadLetter[]> {
    return this.#file.read((file) => deadLetters(file, Math.max(0, Math.trunc(limit))));
  }

  async sweep(): Promise<void> {
    await this.#file.write((file) => {
      pruneMessages(file, this.#clock.now());
      pruneEvents(file, this.#clock.now());
    });
  }

  async close(): Promise<void> {
    this.#events.clear();
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()));
    this.#watch.stop();
    this.#file.close();
  }

  /** Checks whether another process has committed. Runs at every write to the log, so it must be cheap. */
  #checkForCommits(): void {
    const file = this.#file.intact();
    if (!file) {
      this.#reopen();
      return;
    }
    try {
      const version = Number(file.one<{ data_version: number }>("PRAGMA data_version")?.data_version);
      if (version === this.#version) return;
      this.#version = version;
      this.#kick();
      this.#deliver();
    } catch (error) {
      this.#logger.log("debug", "The queue's file could not be looked at.", { reason: reasonOf(error) });
    }
  }

  #reopen(): void {
    if (this.#reopening) return;
    this.#reopening = true;
    this.#file
      .ensure()
      .then(() => {
        this.#deliver();
        this.#kick();
        for (const consumer of this.#consumers) consumer.missed();
      })
      .catch((error) =>
        this.#logger.log("warn", "The queue cannot be opened anew; trying again.", {
          reason: reasonOf(error),
        }),
      )
      .finally(() => {
        this.#reopening = false;
      });
  }

  #deliver(): void {
    const file: OpenDatabase | undefined = this.#file.intact();
    if (file) this.#events.deliver(file);
  }

  #kick(): void {
    for (const consumer of this.#consumers) consumer.kick();
  }
}
