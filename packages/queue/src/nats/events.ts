// Events on plain subjects, so that NATS does the filtering: the third token is the kind of the record, the
// last is the workers that receive it. Listeners of a process with the same filter share one subscription.

import { ALL_NODES, type ChangeEvent, type Id, idKind, type Logger } from "@formation-mcp/contract";
import type { Subscription } from "@nats-io/transport-node";
import { readEvent, reasonOf } from "../rules.ts";
import type { WatchedConnection } from "./connection.ts";
import { textOf } from "./delivery.ts";

const EVENT_PREFIX = "formation.event";
/** The last token of events for no worker. */
const SERVERS_TOKEN = "servers";

/** What a server subscribes to, and what every process may publish. */
export const ALL_EVENTS = `${EVENT_PREFIX}.*.*`;

type Listener = (event: ChangeEvent) => void;

/** The listeners with the same filter. */
interface Audience {
  listeners: Set<Listener>;
  subscriptions: Subscription[];
}

/** What a node's worker subscribes to. */
export function eventsOf(node: Id<"node">): string[] {
  return [`${EVENT_PREFIX}.*.${node}`, `${EVENT_PREFIX}.*.${ALL_NODES}`];
}

function subjectOf({ id, for: workers }: ChangeEvent): string {
  const heard = workers === ALL_NODES || idKind(workers ?? "") === "node";
  return `${EVENT_PREFIX}.${idKind(id) ?? "other"}.${heard ? workers : SERVERS_TOKEN}`;
}

export class NatsEvents {
  readonly #link: WatchedConnection;
  readonly #logger: Logger;
  readonly #audiences = new Map<Id<"node"> | undefined, Audience>();

  constructor(link: WatchedConnection, logger: Logger) {
    this.#link = link;
    this.#logger = logger;
  }

  emit(event: ChangeEvent): void {
    // Dropped while the server is away, to save memory: a caller that waits for a change also polls.
    if (!this.#link.up) return;
    try {
      this.#link.connection.publish(subjectOf(event), JSON.stringify(event));
    } catch (error) {
      this.#logger.log("warn", "An event was lost.", { id: event.id, reason: reasonOf(error) });
    }
  }

  /** Resolves when the server has processed the subscription, or after `limitMs`. */
  async subscribe(
    listener: Listener,
    node: Id<"node"> | undefined,
    limitMs: number,
  ): Promise<AsyncDisposable> {
    const { listeners } = this.#audience(node);
    // Earlier events have arrived by now, because a connection keeps the order.
    await this.#link.flushed(limitMs);
    // Each subscription is separate, even if the same function subscribes twice.
    const own = (event: ChangeEvent) => listener(event);
    listeners.add(own);
    return { [Symbol.asyncDispose]: async () => void listeners.delete(own) };
  }

  close(): void {
    for (const { listeners, subscriptions } of this.#audiences.values()) {
      listeners.clear();
      if (!this.#link.closed) for (const each of subscriptions) each.unsubscribe();
    }
    this.#audiences.clear();
  }

  #audience(node: Id<"node"> | undefined): Audience {
    const known = this.#audiences.get(node);
    if (known) return known;
    const listeners = new Set<Listener>();
    const subjects = node === undefined ? [ALL_EVENTS] : eventsOf(node);
    const subscriptions = subjects.map((subject) =>
      this.#link.connection.subscribe(subject, {
        callback: (error, message) => {
          if (error)
            this.#logger.log("error", "NATS does not let us hear events.", { reason: error.message });
          else this.#tell(textOf(message), listeners);
        },
      }),
    );
    this.#audiences.set(node, { listeners, subscriptions });
    return { listeners, subscriptions };
  }

  #tell(body: string, listeners: Iterable<Listener>): void {
    const event = readEvent(body);
    if (!event) return;
    for (const listener of listeners) {
      try {
        listener(event);
      } catch (error) {
        this.#logger.log("error", "A listener of events threw.", { error: reasonOf(error) });
      }
    }
  }
}
