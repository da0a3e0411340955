// Following what happens on the server, through lost connections and tokens that expire meanwhile.

import { FormationError } from "@formation-mcp/contract";
import { errorOf, isObject } from "./errors.ts";
import { readEvents } from "./server-sent-events.ts";
import { type Ask, rest } from "./wire.ts";

/** Opens a stream with a token that is good. */
export type Open = (ask: Where & { headers: Record<string, string> }) => Promise<Response>;

export interface Where {
  path: string;
  query?: Ask["query"] | undefined;
  signal?: AbortSignal | undefined;
  /** Whether a stream that the server ends is at its end; else there may be more later. */
  finite?: boolean;
}

export interface Told {
  event: string;
  data: Record<string, unknown>;
}

/** So long a stream may be silent: the server says something every 15 s. */
const SILENT_MS = 45_000;
const PAUSE_MS = 500;
/** A connection that broke after this long was a good one. */
const LIVED_MS = 5_000;

/**
 * The events of a path, over as many connections as it takes. Ends when `fruitless` connections in a row ended without
 * an event.
 * @throws FormationError what the server refuses with; `unavailable` where streams do not get through; `cancelled`
 */
export async function* follow(open: Open, where: Where, fruitless: number): AsyncGenerator<Told, void, void> {
  const { signal, finite = false, ...asked } = where;
  let lastId = "";
  for (let left = fruitless; left > 0; left--) {
    const headers = {
      accept: "text/event-stream",
      ...(lastId === "" ? {} : { "last-event-id": lastId }),
    };
    const response = await open({ ...asked, signal, headers });
    const { body } = response;
    if (!body || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
      await body?.cancel();
      throw new FormationError("unavailable", "Streams of events do not get through from the server.", {
        remedy: "Look for a proxy in between.",
      });
    }
    const began = performance.now();
    try {
      for await (const { event, data, id } of readEvents(body, SILENT_MS, lastId)) {
        lastId = id;
        const told: unknown = JSON.parse(data);
        if (!isObject(told)) continue;
        if (event === "error") throw new Said(errorOf(0, { error: told }, "The server"));
        left = fruitless + 1;
        yield { event, data: told };
      }
      if (finite) return;
    } catch (error) {
      if (signal?.aborted) throw new FormationError("cancelled", "The call was cancelled.", { cause: error });
      // A connection that broke, a token that is void and a server that leaves are no reason to end.
      if (error instanceof Said && !error.passing) throw error.error;
      if (performance.now() - began > LIVED_MS) left = fruitless + 1;
    }
    await rest(PAUSE_MS, signal);
  }
}

/** What the server said before it ended a stream. */
class Said extends Error {
  readonly error: FormationError;

  constructor(error: FormationError) {
    super(error.message);
    this.error = error;
  }

  get passing(): boolean {
    return this.error.retryable || ["unauthenticated", "cancelled"].includes(this.error.code);
  }
}
