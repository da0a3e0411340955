// Watching: an operation to its end, an instance's output for as long as somebody looks.

import { FormationError } from "@formation-mcp/contract";
import type { ToolOutput } from "@formation-mcp/tools";
import type { Asker, Waiting } from "./asker.ts";
import { isObject } from "./errors.ts";
import { follow, type Open } from "./follow.ts";

/** An operation as `operation_get` tells it; the last one has `done: true`, with `error` if it failed. */
export type Watched = ToolOutput<"operation_get">;

/** A line that an instance printed: untrusted text. */
export interface LogLine {
  /** Milliseconds since the epoch. */
  at: number;
  /** `stdout`, `stderr`, `console`. */
  stream: string;
  text: string;
}

export interface LogOptions extends Waiting {
  /** Begin with so many lines from before. Default: 100. */
  tail?: number;
  streams?: readonly ("stdout" | "stderr" | "console")[];
}

const ASK_AGAIN_SECONDS = 15;

export async function* watchOperation(
  asker: Asker,
  id: string,
  { signal }: Waiting,
): AsyncGenerator<Watched, void, void> {
  const path = `/api/operations/${encodeURIComponent(id)}/events`;
  for await (const { data } of follow(opener(asker), { path, signal })) {
    if (typeof data["state"] !== "string") continue;
    const watched = data as Watched;
    yield watched;
    if (watched.done) return;
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

/** Lines come as events; where these do not get through there is no following, and `unavailable` says so. */
export async function* readLogs(
  asker: Asker,
  instance: string,
  { signal, tail, streams }: LogOptions,
): AsyncGenerator<LogLine, void, void> {
  const path = `/api/instances/${encodeURIComponent(instance)}/logs`;
  const query = { tail, streams: streams?.join(",") };
  for await (const { data } of follow(opener(asker), { path, query, signal })) {
    for (const line of Array.isArray(data["lines"]) ? data["lines"] : [data]) {
      if (isObject(line) && typeof line["text"] === "string") yield lineOf(line);
    }
  }
  throw new FormationError("unavailable", `Streams from ${asker.url} do not get through.`, {
    remedy: "Call vm_logs with its cursor instead.",
  });
}

function lineOf({ at, stream, text }: Record<string, unknown>): LogLine {
  return {
    at: typeof at === "string" ? Date.parse(at) : Number(at),
    stream: String(stream),
    text: String(text),
  };
}

/** Opens a stream of events. */
function opener(asker: Asker): Open {
  return ({ query = {}, ...ask }) => asker.open({ method: "GET", repeatable: true, query, ...ask });
}
