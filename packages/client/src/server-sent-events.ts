// Reads server-sent events from the body of a response. Lines may be cut anywhere; a line without an end, and
// a stream that falls silent, are errors. Format:
// https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream

import { FormationError } from "@formation-mcp/contract";

export interface ServerSentEvent {
  /** `message` if the server names none. */
  event: string;
  data: string;
  /** The last id seen, for `Last-Event-ID`. Empty if there was none. */
  id: string;
}

const MAX_LINE_CHARS = 4 * 1024 * 1024;

/**
 * The events of a stream, in order.
 * @param idleMs how long the stream may be silent, comments included, before the connection counts as dead.
 * @param lastId the id of the last event of the connection before.
 * @throws FormationError `unavailable`
 */
export async function* readServerSentEvents(
  body: ReadableStream<Uint8Array>,
  idleMs: number,
  lastId = "",
): AsyncGenerator<ServerSentEvent, void, void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let id = lastId;
  let event = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await within(idleMs, reader.read());
      if (done) return; // An event without the empty line at its end is discarded.
      rest += decoder.decode(value, { stream: true });
      // A single \r at the end may be the first half of a \r\n.
      const lines = rest.split(/\r\n|\n|\r(?!$)/);
      rest = lines.pop() ?? "";
      if (rest.length > MAX_LINE_CHARS) throw brokenStream("a line of its events has no end");
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

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const timeout = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(brokenStream("it fell silent")), ms);
  });
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function brokenStream(why: string): FormationError {
  return new FormationError("unavailable", `The server's stream of events broke: ${why}.`, {
    remedy: "Try again.",
  });
}
