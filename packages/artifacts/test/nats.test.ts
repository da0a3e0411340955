// @module-tag nats

import { createHash, randomBytes } from "node:crypto";
import { readdir, truncate } from "node:fs/promises";
import { join } from "node:path";
import type { Artifacts, Digest, LogLine } from "@formation-mcp/artifacts";
import { openNatsArtifacts } from "@formation-mcp/artifacts/nats";
import { LIMITS } from "@formation-mcp/contract";
import { connectNats } from "@formation-mcp/os/nats";
import { type NatsServer, startNats } from "@formation-mcp/os/testing/nats-server";
import { jetstreamManager } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from "vitest";
import { LOGS, NatsWorld } from "./support/nats.ts";

const MiB = 1024 * 1024;
const ALL = { maxBytes: 64 * MiB };
const line = (text: string, stream = "stdout", at = 1): LogLine => ({ at, stream, text });
const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;

async function* pieces(bytes: Uint8Array, size = 300_000): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
async function read(content: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts);
}
const put = (node: Artifacts, bytes: Uint8Array) => node.put(pieces(bytes), ALL);
const get = async (node: Artifacts, digest: Digest) => read(await node.get(digest));
const textsOf = async (node: Artifacts, name: string) =>
  (await node.readLog(name, ALL)).lines.map(({ text }) => text);

let server: NatsServer;
let world: NatsWorld;
beforeAll(async () => {
  server = await startNats();
});
afterAll(() => server.stop());
beforeEach(async () => {
  world = await NatsWorld.open(server);
});
afterEach(async () => {
  vi.restoreAllMocks();
  await world.close();
});

describe("blobs in NATS", () => {
  it("come and go whole though the server is killed amid them", async () => {
    const [writer, reader] = [await world.node(), await world.node()];
    const bytes = randomBytes(24 * MiB);
    const putting = put(writer, bytes);
    await stored((count) => count > 8);
    await server.kill();
    await server.restart();
    const { digest } = await putting;
    const getting = get(reader, digest);
    await server.kill();
    await server.restart();
    expect((await getting).equals(bytes)).toBe(true);
  });

  it("are fetched once by a node, however many read them at a time, and then from its own copy", async () => {
    const writer = await world.node();
    const { digest } = await put(writer, randomBytes(2 * MiB));
    const connection = await world.connect();
    const requests = vi.spyOn(connection, "request");
    const reader = await world.node({ connection });
    await Promise.all(Array.from({ length: 8 }, () => get(reader, digest)));
    const chunks = requests.mock.calls.filter(([, query]) => String(query).includes('"seq"'));
    expect(chunks).toHaveLength(8);
    requests.mockClear();
    await get(reader, digest);
    expect(requests).not.toHaveBeenCalled();
  });

  it("are sent once: the same bytes again change nothing in the store", async () => {
    const [one, other] = [await world.node(), await world.node()];
    const bytes = randomBytes(MiB);
    await put(one, bytes);
    const before = await chunksStored();
    await put(one, bytes);
    await put(other, bytes);
    expect(await chunksStored()).toBe(before);
  });

  it("outlive the loss of the whole store where a node has a copy and a record names them", async () => {
    const [holder, stranger] = [await world.node(), await world.node()];
    const bytes = randomBytes(MiB);
    const { digest } = await put(holder, bytes);
    await server.wipe();
    await server.restart();
    await expect(stranger.get(digest)).rejects.toMatchObject({ code: "not_found" });
    expect((await get(holder, digest)).equals(bytes)).toBe(true);
    await holder.collect([digest], 3_600_000);
    expect((await get(stranger, digest)).equals(bytes)).toBe(true);
  });

  it("are said to be out of reach while there is no server, and are back with it", async () => {
    const node = await world.node({ patienceMs: 300 });
    const { digest } = await put(node, randomBytes(1000));
    await server.kill();
    try {
      await expect(node.stat(digest)).rejects.toMatchObject({
        code: "unavailable",
        details: { remedy: expect.any(String) },
      });
    } finally {
      await server.restart();
    }
    await vi.waitFor(async () => expect(await node.stat(digest)).not.toBeNull(), 10_000);
  });

  it("take no more of a node's disk than they may; what was read last stays", async () => {
    const node = await world.node({ cacheBytes: 2.5 * MiB });
    const digests: Digest[] = [];
    for (let count = 0; count < 5; count++) {
      digests.push((await put(node, randomBytes(MiB))).digest);
      if (digests[0]) await get(node, digests[0]);
    }
    const kept = (await readdir(join(world.cacheOf(0), "sha256"), { recursive: true })).filter(
      (name) => name.length > 64,
    );
    expect(kept).toHaveLength(2);
    expect(kept.some((name) => name.endsWith(digests[0]?.slice(7) ?? ""))).toBe(true);
    for (const digest of digests) expect(digestOf(await get(node, digest))).toBe(digest);
  });

  it("are fetched anew where a node's own copy is damaged, after an error", async () => {
    const node = await world.node();
    const bytes = randomBytes(MiB);
    const { digest } = await put(node, bytes);
    const hex = digest.slice(7);
    await truncate(join(world.cacheOf(0), "sha256", hex.slice(0, 2), hex), 1000);
    await expect(get(node, digest)).rejects.toMatchObject({ code: "internal" });
    expect((await get(node, digest)).equals(bytes)).toBe(true);
  });

  it("leave nothing that is seen when their sender dies, and nothing at all after an hour", async () => {
    const [dying, sweeper] = [await world.connect(), await world.node()];
    const node = await world.node({ connection: dying });
    const bytes = randomBytes(24 * MiB);
    const putting = put(node, bytes);
    putting.catch(() => {});
    await stored((count) => count > 8);
    await dying.close();
    await expect(putting).rejects.toMatchObject({ code: "unavailable" });
    expect(await sweeper.stat(digestOf(bytes))).toBeNull();
    await sweeper.collect([], 0);
    expect(await chunksStored()).toBeGreaterThan(0);
    const now = Date.now();
    vi.spyOn(Date, "now").mockImplementation(() => now + 2 * 3_600_000);
    await sweeper.collect([], 0);
    expect(await chunksStored()).toBe(0);
  });

  it("lie in the bucket as other clients of the object store read them", async () => {
    const node = await world.node();
    const bytes = randomBytes(3 * MiB + 1);
    const { digest } = await put(node, bytes);
    const bucket = await new Objm(await world.connect()).open("formation-blobs");
    expect(Buffer.from((await bucket.getBlob(digest)) ?? []).equals(bytes)).toBe(true);
  });

  it("are not there where anything else stands under their name", async () => {
    const node = await world.node();
    const connection = await world.connect();
    const digest = digestOf(Buffer.from("x"));
    const subject = `$O.formation-blobs.M.${Buffer.from(digest).toString("base64url")}`;
    const info = {
      name: digest,
      nuid: `${digest.slice(7)}-a`,
      size: 1,
      mtime: "x",
      metadata: { chunks: "1" },
    };
    for (const wrong of [
      "",
      "null",
      "[]",
      JSON.stringify({ ...info, name: "sha256:other" }),
      JSON.stringify({ ...info, nuid: "*.>" }),
      JSON.stringify({ ...info, metadata: { chunks: "1-999999999999" } }),
      JSON.stringify({ ...info, size: -1 }),
      JSON.stringify({ ...info, size: 1e15 }),
    ]) {
      await connection.request(padded(subject), wrong);
      expect(await node.stat(digest)).toBeNull();
    }
    await connection.request(padded(subject), JSON.stringify(info));
    await expect(get(node, digest)).rejects.toMatchObject({ code: "internal" });
    await put(node, Buffer.from("x"));
    expect((await get(await world.node(), digest)).toString()).toBe("x");
  });

  it("come back to light where a node holds them and something else was said of them", async () => {
    const [holder, connection] = [await world.node(), await world.connect()];
    const { digest } = await put(holder, randomBytes(MiB));
    const subject = padded(`$O.formation-blobs.M.${Buffer.from(digest).toString("base64url")}`);
    const streams = (await jetstreamManager(connection)).streams;
    const { data } = (await streams.getMessage("OBJ_formation-blobs", { last_by_subj: subject })) ?? {};
    const info = JSON.parse(Buffer.from(data ?? []).toString());
    for (const wrong of [{ size: 1e15 }, { size: 1 }, { deleted: true }, { metadata: { chunks: "1" } }]) {
      await connection.request(subject, JSON.stringify({ ...info, ...wrong }));
      const stranger = await world.node();
      await get(stranger, digest).catch(() => {}); // the reader notices the damage
      await holder.collect([digest], 3_600_000);
      expect((await get(await world.node(), digest)).length, JSON.stringify(wrong)).toBe(MiB);
    }
  });
});

describe("logs in NATS", () => {
  it("have each line once though the server dies amid an append, when the caller tries again", async () => {
    const [writer, reader] = [await world.node({ patienceMs: 300 }), await world.node()];
    const lines = Array.from({ length: 3000 }, (_, i) =>
      line(`${i} `.padEnd(1000, "x"), i % 3 ? "stdout" : "stderr"),
    );
    let failures = 0;
    const appending = (async () => {
      for (;;) {
        try {
          return await writer.appendLog("vm_a", lines);
        } catch {
          failures++;
        }
      }
    })();
    await stored((count) => count > 3, LOGS);
    await server.kill();
    await vi.waitFor(() => expect(failures).toBeGreaterThan(0), 20_000);
    await server.restart();
    await appending;
    expect((await reader.readLog("vm_a", ALL)).lines).toEqual(lines);
  });

  it("are written by one node after the other, and stay within their bound", async () => {
    const nodes = [await world.node(), await world.node()] as const;
    const flood = (from: number) =>
      Array.from({ length: 500 }, (_, i) => line(`${from + i} `.padEnd(4000, "z"), "stdout", from + i));
    for (let round = 0; round < 8; round++) {
      await nodes[round % 2 ? 1 : 0].appendLog("vm_a", [
        ...flood(round * 500),
        line(`${round}`, "console", round),
      ]);
    }
    const kept = (await nodes[0].readLog("vm_a", { ...ALL, streams: ["stdout"] })).lines.map(({ at }) => at);
    expect(kept).toEqual(kept.map((_, i) => (kept[0] ?? 0) + i));
    expect(kept.at(-1)).toBe(3999);
    const console = await nodes[0].readLog("vm_a", { ...ALL, streams: ["console"] });
    expect(console.lines.map(({ at }) => at)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const { state } = await (await jetstreamManager(await world.connect())).streams.info(LOGS);
    expect(state.bytes).toBeLessThan(LIMITS.logBytesPerStream * 1.1);
    expect(state.bytes).toBeGreaterThan(LIMITS.logBytesPerStream * 0.7);
  });

  it("have a tail and a next page that cost few requests, however many appends there were", async () => {
    const writer = await world.node();
    for (let i = 0; i < 300; i++) await writer.appendLog("vm_a", [line(`${i}`)]);
    const connection = await world.connect();
    const reader = await world.node({ connection });
    const requests = vi.spyOn(connection, "request");
    const tail = await reader.readLog("vm_a", { tail: 10, maxBytes: 20_000 });
    expect(tail.lines.at(-1)?.text).toBe("299");
    expect(requests.mock.calls.length).toBeLessThan(20);
    await writer.appendLog("vm_a", [line("300")]);
    requests.mockClear();
    const next = await reader.readLog("vm_a", { cursor: tail.cursor, maxBytes: 20_000 });
    expect(next.lines).toEqual([line("300")]);
    expect(requests.mock.calls.length).toBeLessThan(10);
    expect(await textsOf(reader, "vm_a")).toHaveLength(301);
  });

  it("give nothing of another's log, whatever is written into them", async () => {
    const node = await world.node();
    await node.appendLog("vm_secret", [line("password")]);
    await node.appendLog("vm_a", [line("mine")]);
    const connection = await world.connect();
    const head = {
      v: 1,
      id: "x",
      sure: 9,
      streams: ["stdout", ">", "*"],
      from: 0,
      end: 9,
      first: 9,
      offset: 5,
    };
    for (const before of [
      [[1, 1, 0]],
      [[99_999, 1, 0]],
      [
        [1, 1, 0],
        [1, 1, 0],
      ],
      "x",
      [null],
    ]) {
      await connection.request(
        "formation.log.vm_a.-.stdout",
        `${JSON.stringify({ ...head, before })}\n[9,1,"x"]\n`,
      );
      expect(await textsOf(node, "vm_a")).not.toContain("password");
      await node.readLog("vm_a", { tail: 5, maxBytes: 1000 });
    }
    for (const wrong of ["", "\n", "{}", "[]\n[]\n", "\0"]) {
      await connection.request("formation.log.vm_a.-.stdout", wrong);
      await textsOf(node, "vm_a");
    }
    const large = { ...head, before: [], first: 1, offset: 0, from: 0, end: 0 };
    for (const [sure, number, at] of [
      [Number.MAX_SAFE_INTEGER, 1, 1],
      [1, Number.MAX_SAFE_INTEGER, 1],
      [1, 1, 1e300],
    ]) {
      const text = `${JSON.stringify({ ...large, sure })}\n[${number},${at},"x"]\n`;
      await connection.request("formation.log.vm_a.-.stdout", text);
      await node.appendLog("vm_a", [line("after")]);
      const { lines } = await node.readLog("vm_a", ALL);
      expect(lines.at(-1)?.text).toBe("after");
      for (const each of lines) expect(new Date(each.at).toISOString()).toBeTruthy();
    }
  });
});

it("needs no more than these rights on a worker: no consumer, no stream, no blob's end, nobody else's subject", async () => {
  const streams = ["OBJ_formation-blobs", LOGS];
  const publish = [
    ...["$O.formation-blobs.>", "formation.log.>"],
    ...streams.flatMap((name) => [
      ...[`$JS.API.DIRECT.GET.${name}`, `$JS.API.STREAM.INFO.${name}`],
      `$JS.API.STREAM.MSG.GET.${name}`,
    ]),
    // A log is kept within its limits by its writer.
    `$JS.API.STREAM.PURGE.${LOGS}`,
  ];
  const config = `authorization { users: [
    { user: server, password: s }
    { user: worker, password: w, permissions: {
      publish: ${JSON.stringify(publish)}, subscribe: ["_INBOX_worker.>"] } } ] }`;
  const guarded = await startNats({ config });
  try {
    const connect = (user: string, password: string, inboxPrefix = "_INBOX") =>
      connectNats({
        servers: [guarded.url],
        name: user,
        credentials: { kind: "password", user, password },
        inboxPrefix,
      });
    const [boss, worker] = [await connect("server", "s"), await connect("worker", "w", "_INBOX_worker")];
    const open = (connection: typeof boss, name: string, manage: boolean) =>
      openNatsArtifacts({ connection, cacheDir: join(world.root, name), manage, patienceMs: 2000 });
    await expect(open(worker, "early", false)).rejects.toMatchObject({ code: "unavailable" });
    const [there, here] = [await open(boss, "boss", true), await open(worker, "worker", false)];
    const bytes = randomBytes(MiB);
    const { digest } = await put(here, bytes);
    expect((await get(there, digest)).equals(bytes)).toBe(true);
    await here.appendLog("vm_a", [line("one")]);
    await here.removeLog("vm_a");
    await here.appendLog("vm_a", [line("two")]);
    expect(await textsOf(there, "vm_a")).toEqual(["two"]);
    expect(await here.logNames()).toEqual(["vm_a"]);
    await put(here, bytes);
    // A blob that NATS lost a part of is set aside by its reader, and stored again by a node with a copy.
    const owner = await jetstreamManager(boss);
    await owner.streams.purge("OBJ_formation-blobs", { filter: "$O.formation-blobs.C.>" });
    const fresh = await open(worker, "fresh", false);
    await expect(get(fresh, digest)).rejects.toMatchObject({ code: "internal" });
    expect(await fresh.stat(digest)).toBeNull();
    expect(await here.collect([digest], 0)).toBe(0);
    expect((await get(fresh, digest)).equals(bytes)).toBe(true);
    expect(await here.collect([], 0)).toBe(0);
    expect(await there.collect([], 0)).toBe(MiB);
    expect(await fresh.stat(digest)).toBeNull();
    const manager = await jetstreamManager(worker, { checkAPI: false, timeout: 500 });
    await expect(manager.consumers.add(LOGS, { deliver_subject: "pack.build" })).rejects.toThrow();
    await expect(manager.streams.delete(LOGS)).rejects.toThrow();
    await Promise.all([there.close(), here.close()]);
    await Promise.all([boss.close(), worker.close()]);
  } finally {
    await guarded.stop();
  }
});

const padded = (subject: string) =>
  subject + "=".repeat((4 - ((subject.split(".").at(-1)?.length ?? 0) % 4)) % 4);

/** Waits until a stream has enough messages. */
async function stored(enough: (count: number) => boolean, stream = "OBJ_formation-blobs"): Promise<void> {
  const manager = await jetstreamManager(await world.connect());
  await vi.waitFor(
    async () => expect(enough((await manager.streams.info(stream)).state.messages)).toBe(true),
    { timeout: 20_000, interval: 2 },
  );
}

async function chunksStored(): Promise<number> {
  const manager = await jetstreamManager(await world.connect());
  const filter = { subjects_filter: "$O.formation-blobs.C.>" };
  const { state } = await manager.streams.info("OBJ_formation-blobs", filter);
  return Object.values(state.subjects ?? {}).reduce((sum, count) => sum + count, 0);
}
