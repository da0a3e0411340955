// Watching an operation until it ends, and reading the output of an instance or a build.

import { FormationError } from "@formation-mcp/contract";
import type { ToolOutput } from "@formation-mcp/tools";
import type { AuthorizedWire, RequestOptions } from "./authorized-wire.ts";
import { isObject } from "./errors.ts";
import { followEvents, type OpenStream } from "./follow-events.ts";

/**
 * The state of an operation, as `operation_get` returns it. The last one has `done: true`, with `error` if it
 * failed.
 */
export type OperationUpdate = ToolOutput<"operation_get">;

/** A line that a build or a VM printed: untrusted text. */
export interface LogLine {
  /** Milliseconds since the epoch. */
  at: number;
  /** `stdout`, `stderr`, `console`, `build`. */
  stream: string;
  text: string;
}

export interface LogOptions extends RequestOptions {
  /** How many lines from before to begin with. Default: 100. */
  tail?: number;
  /** Default: stdout and stderr. */
  streams?: readonly ("stdout" | "stderr" | "console")[];
  /** Whether to continue with lines that come later. Default: true. */
  follow?: boolean;
}

/** After so many streams in a row without an event, the operation is polled instead. */
const MAX_EMPTY_STREAMS = 3;
const POLL_WAIT_SECONDS = 15;

/** The states of an operation until it ends. Polls where event streams do not get through. */
export async function* watchOperation(
  wire: AuthorizedWire,
  id: string,
  { signal }: RequestOptions,
): AsyncGenerator<OperationUpdate, void, void> {
  const path = `/api/operations/${encodeURIComponent(id)}/events`;
  const options = { path, signal, maxEmptyStreams: MAX_EMPTY_STREAMS };
  try {
    for await (const { data } of followEvents(streamOpener(wire), options)) {
      const update = data as OperationUpdate;
      yield update;
      if (update.done) return;
    }
  } catch (error) {
    if (!(error instanceof FormationError) || error.code !== "unavailable") throw error;
  }
  yield* pollOperation(wire, id, signal);
}

async function* pollOperation(
  wire: AuthorizedWire,
  id: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<OperationUpdate, void, void> {
  for (let last = ""; ; ) {
    const update = (await wire.send({
      method: "POST",
      path: "/api/tools/operation_get",
      json: { parameters: { id, wait_seconds: last === "" ? 0 : POLL_WAIT_SECONDS } },
      repeatable: true,
      waitsMs: POLL_WAIT_SECONDS * 1000,
      signal,
    })) as OperationUpdate;
    const text = JSON.stringify(update);
    if (text !== last) yield update;
    if (update.done) return;
    last = text;
  }
}

/**
 * The lines of an instance (by id or name) or of a build (`bld_…`). Ends when the instance or the build ends.
 */
export async function* readLogs(
  wire: AuthorizedWire,
  id: string,
  { signal, tail, streams, follow = true }: LogOptions,
): AsyncGenerator<LogLine, void, void> {
  const isBuild = id.startsWith("bld_");
  const path = `/api/${isBuild ? "builds" : "instances"}/${encodeURIComponent(id)}/logs`;
  const query = { tail, streams: isBuild ? undefined : streams?.join(","), follow: follow ? 1 : 0 };
  const options = { path, query, signal, finite: !follow, maxEmptyStreams: 1 };
  for await (const { data } of followEvents(streamOpener(wire), options)) {
    for (const line of Array.isArray(data["lines"]) ? data["lines"] : []) {
      if (isObject(line)) yield logLine(line);
    }
  }
}

function logLine({ at, stream, text }: Record<string, unknown>): LogLine {
  return { at: Number(at), stream: String(stream), text: String(text) };
}

function streamOpener(wire: AuthorizedWire): OpenStream {
  return ({ query = {}, ...request }) => wire.open({ method: "GET", repeatable: true, query, ...request });
}
