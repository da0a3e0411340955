import type { ServerResponse } from "node:http";
import { createClient, type LogLine, type OperationUpdate, type Progress } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { reply, type TestServer, testServer } from "./server.ts";

let server: TestServer;
beforeEach(async () => {
  server = await testServer();
});
afterEach(() => server.close());

const client = (more: object = {}) =>
  createClient({ url: server.url, token: "fmt_x_y", random: () => 0, ...more });

function told(state: string, more: Partial<OperationUpdate> = {}): OperationUpdate {
  return {
    operation_id: "op_1",
    tool: "pack_build",
    state,
    done: state === "completed",
    urls: [],
    cancel_requested: false,
    created_at: null,
    ended_at: null,
    next: "",
    ...more,
  };
}

const EVENTS = "/api/operations/op_1/events";

function stream(response: ServerResponse): (event: string, data: unknown, id?: number) => void {
  response.writeHead(200, { "content-type": "text/event-stream; charset=utf-8" });
  response.write(": here\n\n");
  return (event, data, id) => {
    response.write(
      `${id === undefined ? "" : `id: ${id}\n`}event: ${event}\ndata: ${JSON.stringify(data)}\n\n`,
    );
  };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

describe("watching an operation", () => {
  it("tells each state up to its end", async () => {
    server.on(EVENTS, (_, response) => {
      const send = stream(response);
      send("operation", told("queued"), 1);
      send("progress", told("running"), 2);
      send("operation", told("completed"), 3);
      response.end();
    });
    expect((await all(client().watch("op_1"))).map(({ state }) => state)).toEqual([
      "queued",
      "running",
      "completed",
    ]);
  });

  it("goes on after a connection that was lost, from where it was", async () => {
    server.next(EVENTS, (response) => {
      stream(response)("operation", told("queued"), 7);
      setTimeout(() => response.socket?.destroy(), 50);
    });
    server.on(EVENTS, ({ headers }, response) => {
      stream(response)("operation", told("completed", { next: String(headers["last-event-id"]) }), 8);
      response.end();
    });
    const states = await all(client().watch("op_1"));
    expect(states.map(({ state, next }) => [state, next])).toEqual([
      ["queued", ""],
      ["completed", "7"],
    ]);
  });

  it("asks again and again where streams do not get through", async () => {
    server.on(EVENTS, (_, response) => reply(response, 200, { status: "success", data: {} }));
    const answers = [told("queued"), told("queued"), told("completed")];
    server.on("/api/tools/operation_get", () => answers.shift());
    expect((await all(client().watch("op_1"))).map(({ state }) => state)).toEqual(["queued", "completed"]);
  });

  it("asks where streams open and nothing comes", async () => {
    server.on(EVENTS, (_, response) => {
      stream(response);
      response.end();
    });
    server.on("/api/tools/operation_get", () => told("completed"));
    expect(await all(client().watch("op_1"))).toHaveLength(1);
    expect(server.count(EVENTS)).toBe(3);
  });

  it("throws what the server says about it, before the stream or inside", async () => {
    server.on(EVENTS, () => {
      throw new FormationError("not_found", "There is no such operation.");
    });
    await expect(all(client().watch("op_1"))).rejects.toMatchObject({ code: "not_found" });
    server.on(EVENTS, (_, response) => {
      stream(response)("error", { code: "forbidden", message: "No more." });
      response.end();
    });
    await expect(all(client().watch("op_1"))).rejects.toMatchObject({
      code: "forbidden",
      message: "No more.",
    });
  });

  it("ends when the caller has enough, and leaves no connection", async () => {
    let closed = () => {};
    const gone = new Promise<void>((resolve) => {
      closed = resolve;
    });
    server.on(EVENTS, (_, response) => {
      response.on("close", closed);
      stream(response)("operation", told("running"), 1);
      return new Promise(() => {});
    });
    for await (const { state } of client().watch("op_1")) {
      expect(state).toBe("running");
      break;
    }
    await gone;
    const stop = new AbortController();
    const watching = client().watch("op_1", { signal: stop.signal });
    await watching.next();
    const next = watching.next();
    stop.abort();
    await expect(next).rejects.toMatchObject({ code: "cancelled" });
  });

  it("reads the same events however the bytes are cut", async () => {
    const event = fc.record({
      event: fc.constantFrom("operation", "progress"),
      text: fc.string({ unit: "grapheme" }),
      end: fc.constantFrom("\n", "\r\n", "\r"),
      comment: fc.boolean(),
    });
    const encoder = new TextEncoder();
    await fc.assert(
      fc.asyncProperty(
        fc.array(event, { maxLength: 8 }),
        fc.infiniteStream(fc.integer({ min: 1, max: 40 })),
        async (events, cuts) => {
          const last = { event: "operation", data: told("completed") };
          const sent = [
            ...events.map((one) => ({ ...one, data: told("running", { next: one.text }) })),
            { ...last, end: "\n", comment: false },
          ];
          const bytes = encoder.encode(
            sent
              .map(({ event, data, end, comment }) =>
                [
                  ...(comment ? [": here"] : []),
                  `event: ${event}`,
                  `data: ${JSON.stringify(data)}`,
                  "",
                  "",
                ].join(end),
              )
              .join(""),
          );
          const body = new ReadableStream<Uint8Array>({
            start(controller) {
              for (let at = 0; at < bytes.length; ) {
                const size = cuts.next().value;
                controller.enqueue(bytes.slice(at, at + size));
                at += size;
              }
              controller.close();
            },
          });
          const fetch = async () => new Response(body, { headers: { "content-type": "text/event-stream" } });
          const seen = await all(client({ fetch }).watch("op_1"));
          expect(seen).toEqual(sent.map(({ data }) => data));
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe("a call that waits", () => {
  it("tells the operation's progress, each step once and no fraction that falls", async () => {
    const key = new Set<unknown>();
    server.on("/api/tools/pack_build", ({ json }) => {
      const { wait_seconds, idempotency_key } = json["parameters"] as Record<string, unknown>;
      key.add(idempotency_key);
      if (wait_seconds === 0) return { operation_id: "op_1", done: false, state: "queued" };
      return watched.then(() => ({ operation_id: "op_1", done: true, state: "ready" }));
    });
    let end = () => {};
    const watched = new Promise<void>((resolve) => {
      end = resolve;
    });
    const step = (step: string, fraction: number | null) =>
      told("running", { progress: { step, message: `${step}…`, fraction } });
    server.on(EVENTS, (_, response) => {
      const send = stream(response);
      send("progress", step("pull", 0.5), 1);
      send("progress", step("pull", 0.5), 2);
      send("progress", step("run 1/1", 0.2), 3);
      send("progress", step("disk", null), 4);
      return new Promise(() => {});
    });
    const said: Progress[] = [];
    const result = await client().call(
      "pack_build",
      { formfile: {} },
      {
        onProgress: (progress) => {
          said.push(progress);
          if (progress.step === "disk") end();
        },
      },
    );
    expect(result).toMatchObject({ done: true, state: "ready" });
    expect(said.map(({ step, fraction }) => [step, fraction])).toEqual([
      ["pull", 0.5],
      ["run 1/1", 0.5],
      ["disk", null],
    ]);
    expect(key.size).toBe(1);
  });

  it("answers all the same when its progress can't be told", async () => {
    server.on("/api/tools/vm_control", ({ json }) => ({
      operation_id: "op_1",
      done: (json["parameters"] as { wait_seconds: number }).wait_seconds > 0,
    }));
    const result = await client().call(
      "vm_control",
      { instance: "a", action: "stop" },
      { onProgress: () => {} },
    );
    expect(result).toMatchObject({ done: true });
  });
});

describe("following what is printed", () => {
  const line = (text: string): LogLine => ({ at: 1, stream: "stdout", text });
  const LOGS = "/api/instances/web/logs";

  it("gives the lines, over lost connections, to their end", async () => {
    server.next(LOGS, (response) => {
      stream(response)("lines", { lines: [line("a"), line("b")], more: false }, 2);
      setTimeout(() => response.socket?.destroy(), 50);
    });
    server.on(LOGS, ({ headers }, response) => {
      const send = stream(response);
      if (headers["last-event-id"] === "2") send("lines", { lines: [line("c")], more: false }, 3);
      response.end();
    });
    const lines = await all(client().logs("web", { tail: 5, streams: ["stdout"] }));
    expect(lines.map(({ text }) => text)).toEqual(["a", "b", "c"]);
    expect(server.seen[0]?.path).toBe(`${LOGS}?tail=5&streams=stdout&follow=1`);
  });

  it("reads a build's as well", async () => {
    server.on("/api/builds/bld_1/logs", (_, response) => {
      stream(response)("lines", { lines: [line("made")], more: false }, 1);
      response.end();
    });
    expect((await all(client().logs("bld_1", { follow: false }))).map(({ text }) => text)).toEqual(["made"]);
  });
});
