// Events on plain subjects that let NATS do the filtering: the third word is what changed, the last which workers hear of
// it. All listeners of a process that hear the same share what it subscribed to.

import { ALL_NODES, type ChangeEvent, type Id, idKind, type Logger } from "@formation-mcp/contract";
import type { Subscription } from "@nats-io/transport-node";
import { readEvent, reasonOf } from "../rules.ts";
import type { NatsLink } from "./connection.ts";
import { textOf } from "./delivery.ts";

const PREFIX = "formation.event";
/** The last word of what no worker hears. */
const SERVERS = "servers";

/** What a server hears, and everybody may send. */
export const ALL_EVENTS = `${PREFIX}.*.*`;

type Listener = (event: ChangeEvent) => void;

/** Those who hear the same events. */
interface Audience {
  listeners: Set<Listener>;
  subscriptions: Subscription[];
}

/** What the worker of a node hears. */
export function eventsOf(node: Id<"node">): string[] {
  return [`${PREFIX}.*.${node}`, `${PREFIX}.*.${ALL_NODES}`];
}

function subjectOf({ id, for: workers }: ChangeEvent): string {
  const heard = workers === ALL_NODES || idKind(workers ?? "") === "node";
  return `${PREFIX}.${idKind(id) ?? "other"}.${heard ? workers : SERVERS}`;
}

export class NatsEvents {
  readonly #link: NatsLink;
  readonly #logger: Logger;
  readonly #audiences = new Map<Id<"node"> | undefined, Audience>();

  constructor(link: NatsLink, logger: Logger) {
    this.#link = link;
    this.#logger = logger;
  }

  emit(event: ChangeEvent): void {
    // Kept until the server is back, events would only fill the memory: whoever waits also polls.
    if (!this.#link.up) return;
    try {
      this.#link.connection.publish(subjectOf(event), JSON.stringify(event));
    } catch (error) {
      this.#logger.log("warn", "An event was lost.", { id: event.id, reason: reasonOf(error) });
    }
  }

  /** Resolves when the server knows, or after `limitMs`. */
  async subscribe(
    listener: Listener,
    node: Id<"node"> | undefined,
    limitMs: number,
  ): Promise<AsyncDisposable> {
    const { listeners } = this.#audience(node);
    // What was emitted before has been heard by now, for a connection keeps the order.
    await this.#link.settled(limitMs);
    // Each subscription is its own, also if the same function subscribes twice.
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
