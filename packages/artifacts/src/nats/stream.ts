// Writes and reads a JetStream stream without a consumer: idempotent publishes, and direct reads by sequence
// number or subject. It waits for a server that restarts or lost the stream. A user limited to these few
// subjects cannot make the server send anything elsewhere.

import { FormationError, type Logger } from "@formation-mcp/contract";
import {
  type DirectStreamAPI,
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamClient,
  type JetStreamManager,
  jetstream,
  jetstreamManager,
  type StreamConfig,
} from "@nats-io/jetstream";
import type { NatsConnection } from "@nats-io/transport-node";

/** A stored message. */
export interface StoredMessage {
  seq: number;
  subject: string;
  /** When the server stored it, by the server's clock. */
  at: number;
  data: Uint8Array;
}

export interface NatsStreamOptions {
  connection: NatsConnection;
  name: string;
  subjects: string[];
  replicas: number;
  storage: "file" | "memory";
  /** Whether this process makes the stream if it is missing. */
  manage: boolean;
  /** How long to wait for a server that does not answer, in milliseconds. */
  patienceMs: number;
  logger: Logger;
}

/** Thrown by `publish` if another message was stored under the subject meanwhile. */
export const OVERTAKEN = Symbol("overtaken");

const WRONG_LAST_SEQUENCE = 10071;
const NOT_FOUND = 10037;
const NO_STREAM = 10059;
const REQUEST_TIMEOUT_MS = 3_000;
const BACKOFF_MS = [20, 50, 100, 200, 500];

export class NatsStream {
  readonly #options: NatsStreamOptions;
  readonly #js: JetStreamClient;
  #manager: JetStreamManager | null = null;
  /** Resolved while there is a connection. */
  #up = Promise.resolve();
  /** Called when the connection breaks. */
  readonly #waiting = new Set<() => void>();

  constructor(options: NatsStreamOptions) {
    this.#options = options;
    this.#js = jetstream(options.connection, { timeout: REQUEST_TIMEOUT_MS });
    void this.#watch();
  }

  /** The maximum bytes of one message, minus room for its headers. */
  get maxBytes(): number {
    return (this.#options.connection.info?.max_payload ?? 1024 * 1024) - 1024;
  }

  /** Makes sure that the stream exists. */
  async open(): Promise<void> {
    await this.#patiently(() => this.#ensure());
  }

  /**
   * Stores a message and returns its sequence number. A publish with the same `id` within two minutes is
   * deduplicated.
   * @param after the sequence number of the subject's last message, 0 for none (compare-and-set); throws
   *   `OVERTAKEN` if it is another.
   */
  async publish(subject: string, data: Uint8Array, id: string, after?: number): Promise<number> {
    const expect = after === undefined ? {} : { expect: { lastSubjectSequence: after } };
    return await this.#patiently(async () => {
      try {
        return (await this.#js.publish(subject, data, { msgID: id, ...expect })).seq;
      } catch (error) {
        if (error instanceof JetStreamApiError && error.code === WRONG_LAST_SEQUENCE) throw OVERTAKEN;
        throw error;
      }
    });
  }

  /** The last message of a subject, which may have wildcards. */
  async last(subject: string): Promise<StoredMessage | null> {
    // A follower's copy may lag behind what was just written.
    return await this.#patiently(() =>
      this.#options.replicas > 1
        ? this.#fromLeader({ last_by_subj: subject })
        : this.#direct({ last_by_subj: subject }),
    );
  }

  /** A message by its sequence number. */
  async at(seq: number): Promise<StoredMessage | null> {
    return await this.#patiently(async () => {
      const kept = await this.#direct({ seq });
      return kept === null && this.#options.replicas > 1 ? this.#fromLeader({ seq }) : kept;
    });
  }

  /** The number of messages of each subject that a filter matches. */
  async subjects(filter: string): Promise<Map<string, number>> {
    return await this.#patiently(async () => {
      const manager = await this.#api();
      const { state } = await manager.streams.info(this.#options.name, { subjects_filter: filter });
      return new Map(Object.entries(state.subjects ?? {}));
    });
  }

  /**
   * Removes the messages of a subject (wildcards allowed), or only those before a sequence number. Returns
   * how many.
   */
  async purge(filter: string, before?: number): Promise<number> {
    return await this.#patiently(async () => {
      const manager = await this.#api();
      const options = before === undefined ? { filter } : { filter, seq: before };
      return (await manager.streams.purge(this.#options.name, options)).purged;
    });
  }

  async #direct(query: Parameters<DirectStreamAPI["getMessage"]>[1]): Promise<StoredMessage | null> {
    const { connection, name } = this.#options;
    const answer = await connection.request(`$JS.API.DIRECT.GET.${name}`, JSON.stringify(query), {
      timeout: REQUEST_TIMEOUT_MS,
    });
    const { headers, data } = answer;
    if (headers === undefined)
      throw new FormationError("unavailable", "NATS answered in a way that is not understood.");
    if (headers.code === 404) return null;
    if (headers.code >= 400) {
      throw new FormationError("unavailable", `NATS refused a read: ${headers.description}.`);
    }
    return {
      seq: Number(headers.get("Nats-Sequence")),
      subject: headers.get("Nats-Subject"),
      at: Date.parse(headers.get("Nats-Time-Stamp")),
      data,
    };
  }

  async #fromLeader(query: { seq: number } | { last_by_subj: string }): Promise<StoredMessage | null> {
    try {
      const manager = await this.#api();
      const found = await manager.streams.getMessage(this.#options.name, query);
      if (found === null) return null;
      return { seq: found.seq, subject: found.subject, at: found.time.getTime(), data: found.data };
    } catch (error) {
      if (error instanceof JetStreamApiError && error.code === NOT_FOUND) return null;
      throw error;
    }
  }

  async #api(): Promise<JetStreamManager> {
    this.#manager ??= await jetstreamManager(this.#options.connection, {
      checkAPI: false,
      timeout: REQUEST_TIMEOUT_MS,
    });
    return this.#manager;
  }

  async #ensure(): Promise<void> {
    const { manage, name, replicas, storage, subjects } = this.#options;
    const { streams } = await this.#api();
    try {
      const { config } = await streams.info(name);
      if (manage && config.num_replicas !== replicas) await streams.update(name, { num_replicas: replicas });
    } catch (error) {
      if (!manage || !(error instanceof JetStreamApiError) || error.code !== NO_STREAM) throw error;
      await streams.add({
        name,
        subjects,
        storage: storage as StreamConfig["storage"],
        num_replicas: replicas,
        allow_direct: true,
        discard: DiscardPolicy.New,
      });
      this.#options.logger.log("info", "A stream was made in NATS.", { stream: name });
    }
  }

  /**
   * Follows the connection's state. Requests on a broken connection get no answer, though the library waits
   * for one.
   */
  async #watch(): Promise<void> {
    let back = () => {};
    for await (const { type } of this.#options.connection.status()) {
      if (type === "reconnect") {
        // The server may have come back with an empty store.
        if (this.#options.manage) await this.#ensure().catch(() => {});
        back();
      }
      if (type !== "disconnect") continue;
      this.#up = new Promise((resolve) => {
        back = resolve;
      });
      for (const broke of this.#waiting) broke();
    }
    back();
  }

  #unlessLost<T>(answer: Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const broke = () => reject(new Error("The connection broke."));
      this.#waiting.add(broke);
      answer.then(resolve, reject).finally(() => this.#waiting.delete(broke));
    });
  }

  /** Requests for a missing stream get no answer. */
  async #again<T>(action: () => Promise<T>): Promise<T> {
    if (this.#options.manage) await this.#ensure().catch(() => {});
    return await action();
  }

  /** Retries an idempotent action while the server is away. */
  async #patiently<T>(action: () => Promise<T>): Promise<T> {
    const end = performance.now() + this.#options.patienceMs;
    for (let tries = 0; ; tries++) {
      try {
        await within(this.#up, end - performance.now());
        return await this.#unlessLost(tries === 0 ? action() : this.#again(action));
      } catch (error) {
        if (error === OVERTAKEN || error instanceof FormationError) throw error;
        const pause = BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)] ?? 0;
        const { connection } = this.#options;
        if (isFinal(error) || connection.isClosed() || performance.now() + pause > end) {
          throw unavailable(error);
        }
        await new Promise((resolve) => setTimeout(resolve, pause));
      }
    }
  }
}

/** Whether the server would give the same error again. */
function isFinal(error: unknown): boolean {
  return error instanceof JetStreamApiError && error.status !== 503 && error.code !== NO_STREAM;
}

function unavailable(cause: unknown): FormationError {
  const why = cause instanceof JetStreamApiError ? ` ${cause.message}.` : "";
  return new FormationError("unavailable", `The artifacts cannot be reached in NATS.${why}`, {
    cause,
    remedy:
      "Check that nats-server runs with JetStream, has room, and that this program's user may use the stream.",
  });
}

async function within(ready: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error("There is no connection.")), Math.max(0, ms));
  });
  await Promise.race([ready, late]).finally(() => clearTimeout(timer));
}
