// A connection to NATS as the queue sees it: whether it stands, a way to wait that ends, and a call to whoever must do
// something again once it is back.

import type { NatsConnection } from "@nats-io/transport-node";

export class NatsLink {
  readonly connection: NatsConnection;
  readonly #onBack = new Set<() => void>();
  #up = true;
  #closed = false;

  constructor(connection: NatsConnection) {
    this.connection = connection;
    void this.#follow();
  }

  /** Whether the server can be reached, as far as we know. */
  get up(): boolean {
    return this.#up && !this.closed;
  }

  /** Whether nothing will ever come again: we or the connection's owner closed. */
  get closed(): boolean {
    return this.#closed || this.connection.isClosed();
  }

  /** Calls whenever the connection is back; returns how to stop that. */
  onBack(listener: () => void): () => void {
    this.#onBack.add(listener);
    return () => this.#onBack.delete(listener);
  }

  /** Resolves when the connection stands, or after `limitMs`. */
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

  /** Resolves once the server knows what we sent and subscribed, or after `limitMs`: true in the first case. */
  async settled(limitMs: number): Promise<boolean> {
    if (this.closed) return false;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), limitMs);
    });
    const flushed = this.connection.flush().then(
      () => true,
      () => false,
    );
    return Promise.race([flushed, late]).finally(() => clearTimeout(timer));
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
