// Following operations and logs as server-sent events. Whether the caller may see a thing is asked of control, which
// looks again each time; events of the queue wake, and because they may be lost there is a slow look besides.

import type { LogPage } from "@formation-mcp/artifacts";
import { Bell } from "@formation-mcp/base";
import { LIMITS } from "@formation-mcp/contract";
import { z } from "zod";
import { type EventSink, eventStream } from "./event-stream.ts";
import { knownId } from "./operation-routes.ts";
import { type Exchange, type Route, route } from "./route.ts";

/** How long an unheard event can delay a line. */
const LOOK_AGAIN_MS = 1000;
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
      const id = knownId(exchange.params["id"]);
      const first = await exchange.tool("operation_get", { id, wait_seconds: 0 });
      return eventStream(exchange, (sink) => watch(exchange, sink, id, first));
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
      const look = () => exchange.tool("build_get", { build_id: id, log_tail: 0 });
      const found = await look();
      return followLog(exchange, { name: String(found["build_id"]) }, async () => {
        const { state } = await look();
        return state === "queued" || state === "building";
      });
    },
  }),
];

type Told = Record<string, unknown>;

async function watch(exchange: Exchange, sink: EventSink, id: string, first: Told): Promise<void> {
  let told = first;
  let sent = 0;
  const send = (event: string, data: Told) => {
    sent += 1;
    return sink.send({ event, data, id: String(sent) });
  };
  await send("operation", told);
  while (told["done"] !== true && !sink.signal.aborted) {
    const current = told;
    const next = await exchange.tool(
      "operation_get",
      { id, wait_seconds: LIMITS.waitSeconds },
      {
        signal: sink.signal,
        onProgress: (progress) => {
          void send("progress", { ...current, state: stateIn(progress.step, current), progress });
        },
      },
    );
    if (sink.signal.aborted) return;
    if (JSON.stringify(next) !== JSON.stringify(told)) await send("operation", next);
    told = next;
  }
}

/** Progress is told of what waits and of what runs; only the first is called `queued`. */
function stateIn(step: string, told: Told): unknown {
  return step === "queued" || told["state"] !== "queued" ? told["state"] : "running";
}

interface Log {
  name: string;
  streams?: string[];
}

type LogExchange = Exchange<{ tail: number; cursor?: string | undefined; follow: string }>;

/** @param goesOn whether more lines may come; asked when there are none, and seldom. */
function followLog(exchange: LogExchange, log: Log, goesOn: () => Promise<boolean>): Response {
  const { c, query } = exchange;
  const last = c.req.header("last-event-id");
  // Whatever else was sent as Last-Event-ID is no cursor of ours: begin at the end, as for somebody new.
  const cursor = query.cursor ?? (last !== undefined && /^l[0-9a-z]{1,11}$/.test(last) ? last : undefined);
  const follow = query.follow === "1" || query.follow === "true";
  return eventStream(exchange as Exchange, (sink) => copy(exchange, sink, log, { cursor, follow, goesOn }));
}

async function copy(
  { deps, query }: LogExchange,
  { send, signal }: EventSink,
  { name, streams: wanted }: Log,
  how: { cursor: string | undefined; follow: boolean; goesOn: () => Promise<boolean> },
): Promise<void> {
  let { cursor } = how;
  let ending = !how.follow;
  let asked = performance.now();
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
      // Ends one look after the last line could have come.
      if (page.lines.length === 0 && performance.now() - asked > 5 * LOOK_AGAIN_MS) {
        asked = performance.now();
        ending = !(await how.goesOn());
        if (ending) continue;
      }
      await bell.wait(LOOK_AGAIN_MS, signal);
    }
  } finally {
    await subscription?.[Symbol.asyncDispose]();
  }
}
