// Following what happens on the server, through lost connections: first as server-sent events; where they do not get
// through, by asking again and again.

import { FormationError } from "@formation-mcp/contract";
import { isObject } from "./errors.ts";
import { readEvents } from "./events.ts";
import { type Ask, rest } from "./wire.ts";

/** Opens a stream with a token that is good. */
export type Open = (ask: Where & { headers: Record<string, string> }) => Promise<Response>;

export interface Where {
  path: string;
  query?: Ask["query"] | undefined;
  signal?: AbortSignal | undefined;
}

export interface Told {
  event: string;
  data: Record<string, unknown>;
}

/** So long a stream may be silent: servers send a comment every 15 s. */
const SILENT_MS = 45_000;
/** So many connections in a row may end without an event. */
const FRUITLESS = 3;
const PAUSE_MS = 500;

/**
 * The events of a path, over as many connections as it takes. Ends, without a word, where streams do not get through.
 * @throws FormationError what the server refuses with, `cancelled`
 */
export async function* follow(open: Open, ask: Where): AsyncGenerator<Told, void, void> {
  const { signal } = ask;
  let lastId = "";
  for (let fruitless = 0; fruitless < FRUITLESS; fruitless++) {
    const headers = {
      accept: "text/event-stream",
      ...(lastId === "" ? {} : { "last-event-id": lastId }),
    };
    const response = await open({ ...ask, headers });
    if (!isStream(response)) {
      await response.body?.cancel();
      return;
    }
    try {
      for await (const { event, data, id } of readEvents(response.body, SILENT_MS, lastId)) {
        lastId = id;
        fruitless = -1;
        const told: unknown = JSON.parse(data);
        if (isObject(told)) yield { event, data: told };
      }
    } catch (error) {
      // A connection that broke is tried again; so is one whose text makes no sense.
      if (signal?.aborted) throw new FormationError("cancelled", "The call was cancelled.", { cause: error });
    }
    await rest(PAUSE_MS, signal);
  }
}

function isStream(response: Response): response is Response & { body: ReadableStream<Uint8Array> } {
  const type = response.headers.get("content-type") ?? "";
  return response.status === 200 && response.body !== null && type.startsWith("text/event-stream");
}
