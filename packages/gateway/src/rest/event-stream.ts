// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html): a stream that lives no longer than
// the token it was opened with, that a slow reader can't make grow, and of which one owner has only so many.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import { createPlaces } from "./concurrency-limit.ts";
import type { Exchange } from "./route.ts";

export interface EventSink {
  /** Sends an event; resolves once the reader has room for more. */
  send(event: { event: string; data: unknown; id?: string }): Promise<void>;
  /** Aborted when the reader is gone, the token is void, or the server leaves. */
  readonly signal: AbortSignal;
}

const HEARTBEAT_MS = 15_000;
/** Streams that one owner may have open at this process. */
const AT_ONCE = 32;

const admit = createPlaces(AT_ONCE, {
  message: `${AT_ONCE} streams of events are open already.`,
  remedy: "Close one of them, or ask with wait_seconds instead.",
});

/**
 * Answers with a stream and fills it with `run`; it ends when `run` does. What `run` throws is told as an `error` event.
 * @throws FormationError `limit` if the owner has too many open.
 */
export function eventStream(exchange: Exchange, run: (sink: EventSink) => Promise<void>): Response {
  const { caller, c, deps } = exchange;
  const { owner } = caller.principal;
  const release = admit(owner);
  const ended = new AbortController();
  const signals = [ended.signal, c.req.raw.signal];
  if (deps.closing) signals.push(deps.closing);
  const signal = AbortSignal.any(signals);
  const encoder = new TextEncoder();
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  const waiting = new Set<() => void>();
  const room = () => {
    for (const wake of waiting) wake();
    waiting.clear();
  };
  signal.addEventListener("abort", room, { once: true });
  const write = (text: string) => {
    if (!signal.aborted) controller?.enqueue(encoder.encode(text));
  };
  const sink: EventSink = {
    signal,
    async send({ event, data, id }) {
      write(`${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`);
      while (!signal.aborted && (controller?.desiredSize ?? 0) <= 0) {
        await new Promise<void>((resolve) => waiting.add(resolve));
      }
    },
  };
  const heartbeat = setInterval(() => {
    if ((controller?.desiredSize ?? 0) > 0) write(": here\n\n");
  }, HEARTBEAT_MS);
  const guard = watchToken(exchange, signal, async (error) => {
    write(`event: error\ndata: ${JSON.stringify(error.toRecord())}\n\n`);
    ended.abort();
  });
  const fill = async () => {
    try {
      write(": here\n\n");
      await run(sink);
    } catch (thrown) {
      const error = FormationError.from(thrown);
      if (!signal.aborted) write(`event: error\ndata: ${JSON.stringify(error.toRecord())}\n\n`);
    } finally {
      clearInterval(heartbeat);
      guard.stop();
      release();
      ended.abort();
      try {
        controller?.close();
      } catch {
        // The reader cancelled it.
      }
    }
  };
  const body = new ReadableStream<Uint8Array>(
    {
      start(given) {
        controller = given;
        void fill();
      },
      pull: room,
      cancel: () => ended.abort(),
    },
    new CountQueuingStrategy({ highWaterMark: 16 }),
  );
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-content-type-options": "nosniff",
      // nginx would gather events before it passes them on.
      "x-accel-buffering": "no",
    },
  });
}

/** Asks now and then whether the token still holds and can do as much; a revocation ends what is open as well. */
function watchToken(
  { deps, c, caller }: Exchange,
  signal: AbortSignal,
  onVoid: (error: FormationError) => Promise<void>,
): { stop: () => void } {
  const token = /^Bearer +(\S+)$/i.exec(c.req.header("authorization") ?? "")?.[1];
  if (token === undefined) return { stop: () => {} };
  let asking = false;
  const timer = setInterval(async () => {
    if (asking || signal.aborted) return;
    asking = true;
    try {
      const { principal } = await deps.authority.authenticate(token);
      // The stream goes on with the scopes that it was opened with.
      if ([...caller.principal.scopes].some((scope) => !principal.scopes.has(scope))) {
        await onVoid(
          new FormationError("forbidden", "The account may do less than when this stream was opened.", {
            remedy: "Open it again.",
          }),
        );
      }
    } catch (thrown) {
      const error = FormationError.from(thrown);
      if (!error.retryable) await onVoid(error);
    } finally {
      asking = false;
    }
  }, LIMITS.revocationMs / 2);
  return { stop: () => clearInterval(timer) };
}
