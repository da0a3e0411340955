// Watching: an operation to its end, an instance's output for as long as somebody looks.

import { FormationError } from "@formation-mcp/contract";
import type { ToolOutput } from "@formation-mcp/tools";
import type { Asker, Waiting } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { follow, type Open } from "./follow-events.ts";

/** An operation as `operation_get` tells it; the last one has `done: true`, with `error` if it failed. */
export type Watched = ToolOutput<"operation_get">;

/** A line that was printed by a build or a VM: untrusted text. */
export interface LogLine {
  /** Milliseconds since the epoch. */
  at: number;
  /** `stdout`, `stderr`, `console`, `build`. */
  stream: string;
  text: string;
}

export interface LogOptions extends Waiting {
  /** Begin with so many lines from before. Default: 100. */
  tail?: number;
  /** Default: stdout and stderr. */
  streams?: readonly ("stdout" | "stderr" | "console")[];
  /** Whether to go on with what comes later. Default: true. */
  follow?: boolean;
}

/** So many streams in a row may end without an event, before an operation is asked for instead. */
const FRUITLESS = 3;
const ASK_AGAIN_SECONDS = 15;

/** The states of an operation. Where streams do not get through, they are asked for again and again. */
export async function* watchOperation(
  asker: Asker,
  id: string,
  { signal }: Waiting,
): AsyncGenerator<Watched, void, void> {
  const path = `/api/operations/${encodeURIComponent(id)}/events`;
  try {
    for await (const { data } of follow(opener(asker), { path, signal }, FRUITLESS)) {
      const watched = data as Watched;
      yield watched;
      if (watched.done) return;
    }
  } catch (error) {
    if (!(error instanceof FormationError) || error.code !== "unavailable") throw error;
  }
  for (let last = ""; ; ) {
    const watched = (await asker.send({
      method: "POST",
      path: "/api/tools/operation_get",
      json: { parameters: { id, wait_seconds: last === "" ? 0 : ASK_AGAIN_SECONDS } },
      repeatable: true,
      waitsMs: ASK_AGAIN_SECONDS * 1000,
      signal,
    })) as Watched;
    const text = JSON.stringify(watched);
    if (text !== last) yield watched;
    if (watched.done) return;
    last = text;
  }
}

/** The lines of an instance (by id or name) or of a build (bld_…). Ends with what printed them. */
export async function* readLogs(
  asker: Asker,
  id: string,
  { signal, tail, streams, follow: on = true }: LogOptions,
): AsyncGenerator<LogLine, void, void> {
  const build = id.startsWith("bld_");
  const path = `/api/${build ? "builds" : "instances"}/${encodeURIComponent(id)}/logs`;
  const query = { tail, streams: build ? undefined : streams?.join(","), follow: on ? 1 : 0 };
  for await (const { data } of follow(opener(asker), { path, query, signal, finite: !on }, 1)) {
    for (const line of Array.isArray(data["lines"]) ? data["lines"] : []) {
      if (isObject(line)) yield lineOf(line);
    }
  }
}

function lineOf({ at, stream, text }: Record<string, unknown>): LogLine {
  return { at: Number(at), stream: String(stream), text: String(text) };
}

function opener(asker: Asker): Open {
  return ({ query = {}, ...ask }) => asker.open({ method: "GET", repeatable: true, query, ...ask });
}
