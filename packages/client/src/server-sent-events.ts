// Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream), read from an
// answer's body: lines may be cut anywhere, and a stream that never ends a line is given up.

import { FormationError } from "@formation-mcp/contract";

export interface ServerEvent {
  /** `message` where the server names none. */
  event: string;
  data: string;
  /** The last id seen, for `Last-Event-ID`; empty if there was none. */
  id: string;
}

const LONGEST = 4 * 1024 * 1024;

/**
 * The events of a stream, in order.
 * @param silentMs how long it may say nothing, comments included; a dead connection looks like that.
 */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
  silentMs: number,
  lastId = "",
): AsyncGenerator<ServerEvent, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let id = lastId;
  let event = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await soon(reader.read(), silentMs);
      if (done) return; // an event without the empty line after it is none
      rest += decoder.decode(value, { stream: true });
      // A lone \r at the end may be half of a \r\n.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      if (rest.length > LONGEST) throw broken("a line of its events has no end");
      for (const line of lines) {
        if (line === "") {
          if (data.length > 0) yield { event: event || "message", data: data.join("\n"), id };
          event = "";
          data = [];
          continue;
        }
        const [, name = "", text = ""] = /^([^:]*)(?:: ?(.*))?$/s.exec(line) ?? [];
        if (name === "data") data.push(text);
        else if (name === "event") event = text;
        else if (name === "id" && !text.includes("\0")) id = text;
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

async function soon<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(broken("it fell silent")), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

function broken(why: string): FormationError {
  return new FormationError("unavailable", `The server's stream of events broke: ${why}.`, {
    remedy: "Try again.",
  });
}
