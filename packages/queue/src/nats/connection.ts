// A NATS connection as the queue uses it: whether it is up, waits with a time limit, and listeners for its
// return. This folder knows how the queue is kept in NATS: streams, consumers, subjects and permissions.

import type { NatsConnection } from "@nats-io/transport-node";

export class WatchedConnection {
  readonly connection: NatsConnection;
  readonly #onBack = new Set<() => void>();
  #up = true;
  #closed = false;

  constructor(connection: NatsConnection) {
    this.connection = connection;
    void this.#follow();
  }

  /** Whether the server can be reached, as far as is known. */
  get up(): boolean {
    return this.#up && !this.closed;
  }

  /** Whether the connection is closed for ever, by the queue or by its owner. */
  get closed(): boolean {
    return this.#closed || this.connection.isClosed();
  }

  /** Calls the listener whenever the connection is back; returns a function that removes it. */
  onBack(listener: () => void): () => void {
    this.#onBack.add(listener);
    return () => this.#onBack.delete(listener);
  }

  /** Resolves when the connection is up, or after `limitMs`. */
  async back(limitMs: number): Promise<void> {
    if (this.up || this.closed || limitMs <= 0) return;
    await new Promise<void>((resolve) => {
      const end = () => {
        clearTimeout(timer);
        forget();
        resolve();
      };
      const timer = setTimeout(end, limitMs);
      const forget = this.onBack(end);
    });
  }

  /** Waits until the server has processed what was sent and subscribed. Resolves to false after `limitMs`. */
  async flushed(limitMs: number): Promise<boolean> {
    if (this.closed) return false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), limitMs);
    });
    const done = this.connection.flush().then(
      () => true,
      () => false,
    );
    return Promise.race([done, late]).finally(() => clearTimeout(timer));
  }

  close(): void {
    this.#closed = true;
    this.#onBack.clear();
  }

  async #follow(): Promise<void> {
    for await (const { type } of this.connection.status()) {
      if (this.#closed) return;
      if (type === "disconnect") this.#up = false;
      if (type !== "reconnect") continue;
      this.#up = true;
      for (const listener of this.#onBack) listener();
    }
  }
}
