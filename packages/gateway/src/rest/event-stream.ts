// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html). A stream ends with the
// token that opened it, a slow reader does not make it grow, and an owner can have only a limited number of
// them open.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import { createConcurrencyLimit } from "./concurrency-limit.ts";
import type { Exchange } from "./route.ts";

export interface EventSink {
  /** Sends an event; resolves once the reader has room for more. */
  readonly send: (event: { event: string; data: unknown; id?: string }) => Promise<void>;
  /** Aborts when the reader is gone, the token is no longer valid, or the server shuts down. */
  readonly signal: AbortSignal;
}

const HEARTBEAT_MS = 15_000;
/** Streams that one owner may have open in this process. */
const MAX_STREAMS_PER_OWNER = 32;
/** Events that are buffered for a slow reader. */
const BUFFERED_EVENTS = 16;

const takeSlot = createConcurrencyLimit(MAX_STREAMS_PER_OWNER, {
  message: `${MAX_STREAMS_PER_OWNER} streams of events are open already.`,
  remedy: "Close one of them, or ask with wait_seconds instead.",
});

/**
 * Answers with an event stream that `run` fills. The stream ends when `run` does; an error of `run` becomes
 * an `error` event.
 * @throws FormationError `limit` if the owner has too many streams open.
 */
export function eventStream(exchange: Exchange, run: (sink: EventSink) => Promise<void>): Response {
  const { caller, c, deps } = exchange;
  const release = takeSlot(caller.principal.owner);
  const stream = new EventStream([c.req.raw.signal, ...(deps.closing ? [deps.closing] : [])]);
  const heartbeat = setInterval(() => {
    if (stream.hasRoom) stream.heartbeat();
  }, HEARTBEAT_MS);
  const token = watchToken(exchange, stream.signal, (error) => {
    stream.error(error);
    stream.abort();
  });
  const fill = async () => {
    try {
      stream.heartbeat();
      await run(stream);
    } catch (thrown) {
      stream.error(FormationError.from(thrown));
    } finally {
      clearInterval(heartbeat);
      token.stop();
      release();
      stream.close();
    }
  };
  void fill();
  return new Response(stream.body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      // Without it, nginx buffers events.
      "x-accel-buffering": "no",
    },
  });
}

/** The body of the response: events as text, with backpressure. */
class EventStream implements EventSink {
  readonly body: ReadableStream<Uint8Array>;
  readonly signal: AbortSignal;
  readonly #aborting = new AbortController();
  readonly #encoder = new TextEncoder();
  readonly #waiting = new Set<() => void>();
  #controller: ReadableStreamDefaultController<Uint8Array> | undefined;

  constructor(signals: readonly AbortSignal[]) {
    this.signal = AbortSignal.any([this.#aborting.signal, ...signals]);
    this.signal.addEventListener("abort", () => this.#wake(), { once: true });
    this.body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        pull: () => this.#wake(),
        cancel: () => this.abort(),
      },
      new CountQueuingStrategy({ highWaterMark: BUFFERED_EVENTS }),
    );
  }

  get hasRoom(): boolean {
    return (this.#controller?.desiredSize ?? 0) > 0;
  }

  readonly send: EventSink["send"] = async ({ event, data, id }) => {
    this.#write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
    while (!this.signal.aborted && !this.hasRoom) {
      await new Promise<void>((resolve) => this.#waiting.add(resolve));
    }
  };

  error(error: FormationError): void {
    this.#write(`event: error\ndata: ${JSON.stringify(error.toRecord())}\n\n`);
  }

  /** A comment, which readers ignore; it keeps proxies from closing the connection. */
  heartbeat(): void {
    this.#write(": here\n\n");
  }

  abort(): void {
    this.#aborting.abort();
  }

  close(): void {
    this.abort();
    try {
      this.#controller?.close();
    } catch {
      // The reader has cancelled the stream.
    }
  }

  #write(text: string): void {
    if (!this.signal.aborted) this.#controller?.enqueue(this.#encoder.encode(text));
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

/**
 * Checks periodically that the token is still valid and has the scopes that the stream was opened with, so
 * that a revocation ends open streams too.
 */
function watchToken(
  { deps, c, caller }: Exchange,
  signal: AbortSignal,
  onInvalid: (error: FormationError) => void,
): { stop: () => void } {
  const token = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  if (token === undefined) return { stop: () => {} };
  let checking = false;
  const timer = setInterval(async () => {
    if (checking || signal.aborted) return;
    checking = true;
    try {
      const { principal } = await deps.authority.authenticate(token);
      if ([...caller.principal.scopes].some((scope) => !principal.scopes.has(scope))) {
        onInvalid(
          new FormationError("forbidden", "The account may do less than when this stream was opened.", {
            remedy: "Open it again.",
          }),
        );
      }
    } catch (thrown) {
      const error = FormationError.from(thrown);
      if (!error.retryable) onInvalid(error);
    } finally {
      checking = false;
    }
  }, LIMITS.revocationMs / 2);
  return { stop: () => clearInterval(timer) };
}
