import { newId } from "@formation-mcp/contract";
import { freePort } from "@formation-mcp/os/testing/free-port";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { EVERYTHING, type Json, openWorld, PUBLIC_URL, type Someone, until, type World } from "./world.ts";

interface Event {
  event: string;
  id: string | undefined;
  data: Json;
}

let world: World;
let alice: Someone;

beforeEach(async () => {
  world = await openWorld();
  alice = await world.someone(EVERYTHING);
});
afterEach(async () => {
  await world[Symbol.asyncDispose]();
});

/** Opens a stream; events are read one after the other. */
async function open(path: string, { token = alice.token, lastId }: { token?: string; lastId?: string } = {}) {
  const gone = new AbortController();
  const response = await world.fetch(
    new Request(`${PUBLIC_URL}${path}`, {
      headers: {
        authorization: `Bearer ${token}`,
        accept: "text/event-stream",
        ...(lastId === undefined ? {} : { "last-event-id": lastId }),
      },
      signal: gone.signal,
    }),
  );
  const reader = response.body?.getReader();
  let rest = "";
  const next = async (): Promise<Event | null> => {
    for (;;) {
      const end = rest.indexOf("\n\n");
      if (end !== -1) {
        const block = rest.slice(0, end);
        rest = rest.slice(end + 2);
        const lines = block.split("\n"); // and at nothing else: JSON may hold other line ends
        const field = (name: string) =>
          lines.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        const data = field("data");
        if (data === undefined) continue;
        return { event: field("event") ?? "message", id: field("id"), data: JSON.parse(data) as Json };
      }
      const read = await reader?.read();
      if (!read || read.done) return null;
      rest += new TextDecoder().decode(read.value);
    }
  };
  return {
    status: response.status,
    headers: response.headers,
    next,
    async all(): Promise<Event[]> {
      const events: Event[] = [];
      for (let event = await next(); event; event = await next()) events.push(event);
      return events;
    },
    async close() {
      await reader?.cancel();
      gone.abort();
    },
  };
}

async function build(name: string, run: string[] = []): Promise<{ build_id: string; operation_id: string }> {
  const formfile = { from: "busybox", name, run, entrypoint: "sleep 60" };
  const said = await world.ask("POST", "/api/tools/pack_build", {
    token: alice.token,
    json: { formfile, wait_seconds: 0 },
  });
  return said.data as { build_id: string; operation_id: string };
}

describe("an operation's events", () => {
  it("are the results of operation_get with progress between them, and end with the operation", async () => {
    const { operation_id, build_id } = await build("watched", ["echo one", "echo two"]);
    const stream = await open(`/api/operations/${operation_id}/events`);
    expect(stream.status).toBe(200);
    expect(stream.headers.get("content-type")).toMatch(/^text\/event-stream/);
    expect(await stream.next()).toMatchObject({
      event: "operation",
      id: "1",
      data: { operation_id, state: "queued", done: false },
    });
    await world.work();
    const rest = await stream.all();
    expect(rest.at(-1)).toMatchObject({
      event: "operation",
      data: { state: "completed", done: true, record: { id: build_id, state: "ready" } },
    });
    const progress = rest.filter(({ event }) => event === "progress");
    expect(progress.length).toBeGreaterThan(0);
    for (const { data } of progress) {
      expect(data).toMatchObject({ operation_id, done: false, progress: { step: expect.any(String) } });
    }
  });

  it("are one event if it has ended, whatever Last-Event-ID says", async () => {
    await world.work();
    const { operation_id } = await build("ended");
    await until(async () => {
      const { data } = await world.ask("GET", `/api/operations/${operation_id}`, { token: alice.token });
      return data["status"] === "completed";
    });
    for (const lastId of [undefined, "7", "\u00e9"]) {
      const stream = await open(
        `/api/operations/${operation_id}/events`,
        lastId === undefined ? {} : { lastId },
      );
      expect(await stream.all()).toMatchObject([{ event: "operation", data: { done: true } }]);
    }
  });

  it("end when the token is revoked", async () => {
    const { operation_id } = await build("revoked");
    const stream = await open(`/api/operations/${operation_id}/events`);
    await stream.next();
    await world.authority.revokeOwner(alice.owner);
    const rest = await stream.all();
    expect(rest.at(-1)).toMatchObject({ event: "error", data: { code: "unauthenticated" } });
  });

  it("end when the token has expired", async () => {
    const { operation_id } = await build("expired");
    const stream = await open(`/api/operations/${operation_id}/events`);
    await stream.next();
    world.time.offset += 20 * 60_000;
    expect((await stream.all()).at(-1)).toMatchObject({ event: "error", data: { code: "unauthenticated" } });
  });

  it("end when the account loses a scope, though the token is still valid", async () => {
    const { operation_id } = await build("lessened");
    const stream = await open(`/api/operations/${operation_id}/events`);
    await stream.next();
    await world.authority.setScopes(alice.owner, new Set(["vm:read"]));
    expect((await stream.all()).at(-1)).toMatchObject({ event: "error", data: { code: "forbidden" } });
  });

  it("are bounded in the number of streams per owner, and a closed stream makes room", async () => {
    const { operation_id } = await build("many");
    const path = `/api/operations/${operation_id}/events`;
    const streams: Awaited<ReturnType<typeof open>>[] = [];
    for (;;) {
      const stream = await open(path);
      if (stream.status !== 200) {
        expect(stream.status).toBe(429);
        expect(stream.headers.get("retry-after")).toMatch(/^\d+$/);
        break;
      }
      streams.push(stream);
      expect(streams.length).toBeLessThan(100);
    }
    await streams.pop()?.close();
    await until(async () => {
      const stream = await open(path);
      if (stream.status === 200) streams.push(stream);
      return stream.status === 200;
    });
    for (const stream of streams) await stream.close();
  });
});

describe("logs as events", () => {
  const line = (text: string, at = 1) => ({ at, stream: "build", text });
  const texts = (events: Event[]) =>
    events.flatMap(({ data }) => (data["lines"] as { text: string }[]).map(({ text }) => text));

  it("of a build come as they are printed and end with it; their text cannot leave its event", async () => {
    const { build_id } = await build("printing", ["echo first; echo second"]);
    const hostile = "a\n\nevent: operation\ndata: {}\u2028\u001b[2J";
    await world.artifacts.appendLog(build_id, [line(hostile)]);
    const stream = await open(`/api/builds/${build_id}/logs`);
    const first = await stream.next();
    expect(first).toMatchObject({ event: "lines", id: expect.stringMatching(/^l/) });
    expect(texts(first ? [first] : [])).toEqual([hostile]);
    await world.work();
    const rest = await stream.all();
    expect(rest.every(({ event }) => event === "lines")).toBe(true);
    expect(texts(rest)).toEqual(expect.arrayContaining(["first", "second"]));
  });

  it("go on after a cursor, by Last-Event-ID or in the query, and end at once without follow", async () => {
    const { build_id } = await build("again");
    const path = `/api/builds/${build_id}/logs?follow=0`;
    await world.artifacts.appendLog(
      build_id,
      ["one", "two"].map((text) => line(text)),
    );
    const [event] = await (await open(path)).all();
    expect(texts(event ? [event] : [])).toEqual(["one", "two"]);
    await world.artifacts.appendLog(build_id, [line("three")]);
    const lastId = event?.id ?? "";
    expect(texts(await (await open(path, { lastId })).all())).toEqual(["three"]);
    expect(texts(await (await open(`${path}&cursor=${lastId}`)).all())).toEqual(["three"]);
    expect(texts(await (await open(path, { lastId: "../nonsense" })).all())).toEqual(["one", "two", "three"]);
    expect(texts(await (await open(`${path}&tail=1`)).all())).toEqual(["three"]);
  });

  it("of many lines come completely, in order, page by page", async () => {
    const { build_id } = await build("long");
    const many = Array.from({ length: 5000 }, (_, i) => `${i} ${"x".repeat(80)}`);
    await world.artifacts.appendLog(build_id, [line("start")]);
    const stream = await open(`/api/builds/${build_id}/logs`);
    expect(texts([(await stream.next()) as Event])).toEqual(["start"]);
    await world.artifacts.appendLog(
      build_id,
      many.map((text) => line(text)),
    );
    const seen: string[] = [];
    while (seen.length < many.length) {
      const event = await stream.next();
      if (!event) break;
      for (const text of texts([event])) seen.push(text);
    }
    expect(seen).toEqual(many);
    await stream.close();
  });

  it("of an instance are followed by name or id, of the requested streams, by its owner only", async () => {
    await world.work();
    const port = await freePort();
    const program = `console.log("out"); console.error("err"); require("node:http").createServer((q, r) => { console.log(q.url); r.end("x"); }).listen(${port})`;
    const formfile = {
      from: "busybox",
      name: "web",
      entrypoint: [process.execPath, "-e", program],
      expose: [port],
    };
    const built = await world.ask("POST", "/api/tools/pack_build", {
      token: alice.token,
      json: { formfile },
    });
    const shipped = await world.ask("POST", "/api/tools/pack_ship", {
      token: alice.token,
      json: { build_id: built.data["build_id"], wait_seconds: 45 },
    });
    const { instance_id, urls } = shipped.data as { instance_id: string; urls: string[] };
    const stream = await open("/api/instances/web/logs?streams=stdout");
    await fetch(`${urls[0]}/seen`);
    const seen: string[] = [];
    while (!seen.includes("/seen")) {
      const event = await stream.next();
      if (!event) break;
      for (const text of texts([event])) seen.push(text);
    }
    expect(seen).toContain("/seen");
    expect(seen).not.toContain("err");
    await stream.close();
    expect((await open(`/api/instances/${instance_id}/logs?follow=0`)).status).toBe(200);
    const bob = await world.someone(EVERYTHING);
    for (const path of [
      `/api/instances/${instance_id}/logs`,
      "/api/instances/web/logs",
      `/api/instances/${newId("vm")}/logs`,
    ]) {
      expect((await open(path, { token: bob.token })).status).toBe(404);
    }
  });
});
