// Events of the embedded queue: a short ring of rows, which every process reads from its last position.

import type { ChangeEvent, Id, Logger } from "@formation-mcp/contract";
import { isHeardAt } from "../rules.ts";
import type { OpenDatabase } from "./queue-file.ts";

const EVENT_KEPT_MS = 60_000;
const MAX_EVENT_ROWS = 10_000;
const PRUNE_EVERY_ROWS = 256;

type Listener = (event: ChangeEvent) => void;

interface ListenerPosition {
  node: Id<"node"> | undefined;
  /** The number of the last event before the subscription. */
  from: number;
}

export function emitEvent(file: OpenDatabase, event: ChangeEvent, now: number): void {
  const { lastInsertRowid } = file
    .sql("INSERT INTO events (at, body) VALUES (?, ?)")
    .run(now, JSON.stringify(event));
  if (Number(lastInsertRowid) % PRUNE_EVERY_ROWS === 0) pruneEvents(file, now);
}

export function pruneEvents(file: OpenDatabase, now: number): void {
  file.run("DELETE FROM events WHERE at <= ?", now - EVENT_KEPT_MS);
  file.run(`DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ${MAX_EVENT_ROWS}`);
}

/** The subscribers of one process. */
export class EventListeners {
  readonly #logger: Logger;
  readonly #listeners = new Map<Listener, ListenerPosition>();
  #file: OpenDatabase | undefined;
  #seen = 0;

  constructor(logger: Logger) {
    this.#logger = logger;
  }

  /** Adds a listener for events after now. */
  add(file: OpenDatabase, listener: Listener, node: Id<"node"> | undefined): void {
    this.deliver(file);
    this.#listeners.set(listener, { node, from: this.#seen });
  }

  remove(listener: Listener): void {
    this.#listeners.delete(listener);
  }

  clear(): void {
    this.#listeners.clear();
  }

  /** Passes new events to the listeners. */
  deliver(file: OpenDatabase): void {
    if (this.#file !== file) this.#follow(file);
    if (this.#listeners.size === 0) {
      this.#seen = lastEventNumber(file);
      return;
    }
    for (const row of file.all<{ seq: number; body: string }>(
      "SELECT seq, body FROM events WHERE seq > ? ORDER BY seq",
      this.#seen,
    )) {
      this.#seen = row.seq;
      const event = JSON.parse(row.body) as ChangeEvent;
      for (const [listener, { node, from }] of this.#listeners) {
        if (row.seq > from && isHeardAt(event, node)) this.#tell(listener, event);
      }
    }
  }

  /**
   * Follows another file. A new file counts from one again, and all its events are new to the existing
   * listeners.
   */
  #follow(file: OpenDatabase): void {
    this.#seen = this.#file === undefined ? lastEventNumber(file) : 0;
    this.#file = file;
    for (const place of this.#listeners.values()) place.from = 0;
  }

  #tell(listener: Listener, event: ChangeEvent): void {
    try {
      listener(event);
    } catch (error) {
      this.#logger.log("error", "A listener of events threw.", {
        error: error instanceof Error ? error.name : typeof error,
      });
    }
  }
}

function lastEventNumber(file: OpenDatabase): number {
  return file.one<{ seq: number }>("SELECT seq FROM sqlite_sequence WHERE name = 'events'")?.seq ?? 0;
}
