// Operations and logs as server-sent events. Control decides each time whether the caller may see the record.
// Events of the queue trigger the next read; because events may be lost, there is a slow poll too.

import type { LogPage } from "@formation-mcp/artifacts";
import { Bell } from "@formation-mcp/base";
import { LIMITS } from "@formation-mcp/contract";
import { z } from "zod";
import { type EventSink, eventStream } from "./event-stream.ts";
import { requireId } from "./operation-routes.ts";
import { type Exchange, type Route, route } from "./route.ts";

/** The longest delay of a line whose event is lost. */
const POLL_MS = 1000;
/** How long a log may be quiet before it is checked whether more can come. */
const QUIET_MS = 5 * POLL_MS;
const PAGE_BYTES = 64 * 1024;

const logQuery = {
  tail: z.coerce
    .number()
    .int()
    .min(0)
    .max(1000)
    .default(100)
    .describe("Begin with so many lines from before"),
  cursor: z.string().min(1).max(100).optional().describe("Go on after it; Last-Event-ID says the same"),
  follow: z.enum(["0", "1", "false", "true"]).default("1").describe("0: end when there is no more"),
};

const streams = z
  .string()
  .regex(/^(stdout|stderr|console)(,(stdout|stderr|console)){0,2}$/, "must be of stdout, stderr, console")
  .default("stdout,stderr")
  .describe("Separated by commas");

export const STREAM_ROUTES: readonly Route[] = [
  route({
    method: "GET",
    path: "/api/operations/{id}/events",
    access: "operation:read",
    tag: "operations",
    id: "watchOperation",
    summary: "Watch an operation to its end",
    description:
      "Events `operation` and `progress` carry what operation_get says; the last one has done: true, and then the stream ends.",
    answer: "events",
    errors: [400, 404],
    async handle(exchange) {
      const id = requireId(exchange.params["id"]);
      const first = await exchange.tool("operation_get", { id, wait_seconds: 0 });
      return eventStream(exchange, (sink) => sendOperation(exchange, sink, id, first));
    },
  }),
  route({
    method: "GET",
    path: "/api/instances/{id}/logs",
    access: "vm:read",
    tag: "instances",
    id: "followInstanceLogs",
    summary: "Follow what an instance prints",
    description:
      "Events `lines` carry {lines: [{at, stream, text}], more}; the text is a stranger's, as it came.",
    query: z.object({ ...logQuery, streams }),
    answer: "events",
    errors: [400, 404],
    async handle(exchange) {
      const { id = "" } = exchange.params;
      const found = await exchange.tool("vm_status", { instance: id });
      const log = { name: String(found["instance_id"]), streams: exchange.query.streams.split(",") };
      return followLog(exchange, log, async () => {
        const { state } = await exchange.tool("vm_status", { instance: log.name });
        return state !== "deleted";
      });
    },
  }),
  route({
    method: "GET",
    path: "/api/builds/{id}/logs",
    access: "pack:read",
    tag: "builds",
    id: "followBuildLogs",
    summary: "Follow what a build prints",
    description: "As for instances; the stream ends with the build.",
    query: z.object(logQuery),
    answer: "events",
    errors: [400, 404],
    async handle(exchange) {
      const { id = "" } = exchange.params;
      const getBuild = () => exchange.tool("build_get", { build_id: id, log_tail: 0 });
      const found = await getBuild();
      return followLog(exchange, { name: String(found["build_id"]) }, async () => {
        const { state } = await getBuild();
        return state === "queued" || state === "building";
      });
    },
  }),
];

type Operation = Record<string, unknown>;

/** Sends an operation whenever it changes, and its progress, until it is done. */
async function sendOperation(
  exchange: Exchange,
  sink: EventSink,
  id: string,
  first: Operation,
): Promise<void> {
  let latest = first;
  let sent = 0;
  const send = (event: string, data: Operation) => {
    sent += 1;
    return sink.send({ event, data, id: String(sent) });
  };
  await send("operation", latest);
  while (latest["done"] !== true && !sink.signal.aborted) {
    const current = latest;
    const next = await exchange.tool(
      "operation_get",
      { id, wait_seconds: LIMITS.waitSeconds },
      {
        signal: sink.signal,
        onProgress: (progress) => {
          void send("progress", { ...current, state: stateDuring(progress.step, current), progress });
        },
      },
    );
    if (sink.signal.aborted) return;
    if (JSON.stringify(next) !== JSON.stringify(latest)) await send("operation", next);
    latest = next;
  }
}

/** An operation that was queued and makes progress runs now, unless the step says that it still waits. */
function stateDuring(step: string, { state }: Operation): unknown {
  return step === "queued" || state !== "queued" ? state : "running";
}

interface Log {
  name: string;
  /** Default: all of them. */
  streams?: string[];
}

type LogExchange = Exchange<{ tail: number; cursor?: string | undefined; follow: string }>;

/** @param isLive whether more lines may come; called rarely, and only when there are none. */
function followLog(exchange: LogExchange, log: Log, isLive: () => Promise<boolean>): Response {
  const { c, query } = exchange;
  const last = c.req.header("last-event-id");
  // Another Last-Event-ID is not one of our cursors: begin at the end of the log.
  const cursor = query.cursor ?? (last !== undefined && /^l[0-9a-z]{1,11}$/.test(last) ? last : undefined);
  const follow = query.follow === "1" || query.follow === "true";
  return eventStream(exchange as Exchange, (sink) =>
    sendLog(exchange, sink, log, { cursor, follow, isLive }),
  );
}

/** Sends the lines of a log until it has ended, or once if it is not followed. */
async function sendLog(
  { deps, query }: LogExchange,
  { send, signal }: EventSink,
  { name, streams: wanted }: Log,
  options: { cursor: string | undefined; follow: boolean; isLive: () => Promise<boolean> },
): Promise<void> {
  let { cursor } = options;
  let ending = !options.follow;
  let checkedAt = performance.now();
  const bell = new Bell();
  const subscription = await deps.queue
    .subscribe((event) => {
      if (event.id === name) bell.ring();
    })
    .catch(() => null);
  try {
    while (!signal.aborted) {
      const page: LogPage = await deps.artifacts.readLog(name, {
        ...(wanted === undefined ? {} : { streams: wanted }),
        ...(cursor === undefined ? { tail: query.tail } : { cursor }),
        maxBytes: PAGE_BYTES,
      });
      const following = cursor !== undefined;
      cursor = page.cursor;
      if (page.lines.length > 0) {
        await send({ event: "lines", data: { lines: page.lines, more: page.more }, id: page.cursor });
        if (page.more && following) continue;
      }
      if (ending) return;
      // Reads once more after the log has ended: lines may have come in between.
      if (page.lines.length === 0 && performance.now() - checkedAt > QUIET_MS) {
        checkedAt = performance.now();
        ending = !(await options.isLive());
        if (ending) continue;
      }
      await bell.wait(POLL_MS, signal);
    }
  } finally {
    await subscription?.[Symbol.asyncDispose]();
  }
}
