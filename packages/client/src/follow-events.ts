// Follows the events of a path on the server across lost connections and expired tokens.

import { FormationError } from "@formation-mcp/contract";
import { errorOf, isObject } from "./errors.ts";
import type { RequestSpec } from "./http-request.ts";
import { readServerSentEvents } from "./server-sent-events.ts";
import { cancelled, sleep } from "./sleep.ts";

/** Opens an event stream with a valid token. */
export type OpenStream = (request: {
  path: string;
  query?: RequestSpec["query"] | undefined;
  signal?: AbortSignal | undefined;
  headers: Record<string, string>;
}) => Promise<Response>;

export interface FollowOptions {
  path: string;
  query?: RequestSpec["query"] | undefined;
  signal?: AbortSignal | undefined;
  /** Whether the stream is complete when the server closes it. Default: false, the client connects again. */
  finite?: boolean;
  /** Gives up after so many connections in a row without an event. */
  maxEmptyStreams: number;
}

export interface FollowedEvent {
  event: string;
  data: Record<string, unknown>;
}

/** The server sends at least a comment every 15 s. */
const IDLE_TIMEOUT_MS = 45_000;
const RECONNECT_DELAY_MS = 500;
/** A connection that lasted this long does not count as empty. */
const HEALTHY_CONNECTION_MS = 5_000;

/**
 * The events of a path, over as many connections as needed. Ends after `maxEmptyStreams` connections in a row
 * without an event.
 * @throws FormationError the error that the server sends; `unavailable` if event streams do not get through;
 *   `cancelled`
 */
export async function* followEvents(
  open: OpenStream,
  options: FollowOptions,
): AsyncGenerator<FollowedEvent, void, void> {
  const { path, query, signal, finite = false, maxEmptyStreams } = options;
  let lastId = "";
  for (let left = maxEmptyStreams; left > 0; left--) {
    const body = await openBody(open, { path, query, signal }, lastId);
    const began = performance.now();
    try {
      for await (const { event, data, id } of readServerSentEvents(body, IDLE_TIMEOUT_MS, lastId)) {
        lastId = id;
        const parsed: unknown = JSON.parse(data);
        if (!isObject(parsed)) continue;
        if (event === "error") throw new StreamError(errorOf(0, { error: parsed }, "The server"));
        left = maxEmptyStreams + 1;
        yield { event, data: parsed };
      }
      if (finite) return;
    } catch (error) {
      if (signal?.aborted) throw cancelled(error);
      // A broken connection, an expired token and a server that shuts down are no reason to end.
      if (error instanceof StreamError && !error.isTemporary) throw error.error;
      if (performance.now() - began > HEALTHY_CONNECTION_MS) left = maxEmptyStreams + 1;
    }
    await sleep(RECONNECT_DELAY_MS, signal);
  }
}

async function openBody(
  open: OpenStream,
  request: Pick<FollowOptions, "path" | "query" | "signal">,
  lastId: string,
): Promise<ReadableStream<Uint8Array>> {
  const headers = {
    accept: "text/event-stream",
    ...(lastId === "" ? {} : { "last-event-id": lastId }),
  };
  const response = await open({ ...request, headers });
  const { body } = response;
  if (body && response.headers.get("content-type")?.startsWith("text/event-stream")) return body;
  await body?.cancel();
  throw new FormationError("unavailable", "Streams of events do not get through from the server.", {
    remedy: "Look for a proxy in between.",
  });
}

/** The error that the server sent before it closed a stream. */
class StreamError extends Error {
  readonly error: FormationError;

  constructor(error: FormationError) {
    super(error.message);
    this.error = error;
  }

  get isTemporary(): boolean {
    return this.error.retryable || ["unauthenticated", "cancelled"].includes(this.error.code);
  }
}
