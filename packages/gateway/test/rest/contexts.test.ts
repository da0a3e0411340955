import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";
import { listContext, packFiles } from "@formation-mcp/artifacts/context";
import { LIMITS } from "@formation-mcp/contract";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVERYTHING, type Json, openWorld, PUBLIC_URL, type Someone, until, type World } from "./world.ts";

type Body = NonNullable<RequestInit["body"]>;

let world: World;
let alice: Someone;

beforeAll(async () => {
  world = await openWorld();
  alice = await world.someone(EVERYTHING);
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

async function pack(files: Record<string, string>): Promise<Buffer> {
  const given = Object.entries(files).map(([name, text]) => [name, { content: Buffer.from(text) }]);
  const parts: Uint8Array[] = [];
  for await (const part of packFiles(Object.fromEntries(given), ["."])) parts.push(part);
  return Buffer.concat(parts);
}

async function upload(
  body: Body,
  {
    token = alice.token,
    query = "",
    headers = {},
  }: { token?: string; query?: string; headers?: Record<string, string> } = {},
) {
  const response = await world.fetch(
    new Request(`${PUBLIC_URL}/api/contexts${query}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${token}`, "content-type": "application/x-tar", ...headers },
      body,
      ...({ duplex: "half" } as object),
    }),
  );
  const said = (await response.json()) as Json;
  return { status: response.status, body: said, data: (said["data"] ?? {}) as Json };
}

/** An archive of one file of so many MiB of zeros, its end left out. */
function rawFile(name: string, mib: number): Buffer {
  const header = Buffer.alloc(512);
  header.write(name);
  header.write("0000644\0", 100);
  header.write(`${(mib * 1024 * 1024).toString(8).padStart(11, "0")}\0`, 124);
  header.write("        0", 148);
  header.write("ustar\0" + "00", 257);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  return Buffer.concat([header, Buffer.alloc(4096)]);
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes);
const stored = async () => (await world.store.artifactRoots()).length;

describe("an uploaded context", () => {
  it("is kept for a day under an id that names it, plain or compressed, and builds its owner's files", async () => {
    const files = { "app/hello.txt": "hello", "app/other.txt": "x" };
    for (const body of [await pack(files), gzipSync(await pack(files))]) {
      const { status, data } = await upload(body);
      expect(status).toBe(200);
      expect(data).toMatchObject({
        context_id: expect.stringMatching(/^ctx_[0-9a-f]{32}$/),
        digest: expect.stringMatching(/^sha256:/),
        bytes: 6,
        files: 2,
      });
      const kept = Date.parse(String(data["expires_at"])) - Date.now();
      expect(Math.abs(kept - LIMITS.uploadedContextKeptMs)).toBeLessThan(600_000);
      const found = await world.deps.documents.get("context", String(data["context_id"]));
      expect(found).toMatchObject({
        owner: alice.owner,
        artifact: data["digest"],
        doc: { bytes: 6, files: 2 },
      });
      const listing: string[] = [];
      const blob = await world.artifacts.get(data["digest"] as `sha256:${string}`);
      for await (const { path } of listContext(blob)) listing.push(path);
      expect(listing).toEqual(["app", "app/hello.txt", "app/other.txt"]);
      const formfile = { from: "busybox", name: "up", include: ["app/hello.txt"], entrypoint: "true" };
      const call = (token: string) =>
        world.ask("POST", "/api/tools/pack_build", {
          token,
          json: { formfile, context_id: data["context_id"], wait_seconds: 0 },
        });
      expect((await call(alice.token)).data).toMatchObject({ state: "queued" });
      expect((await call((await world.someone(EVERYTHING)).token)).status).toBe(404);
    }
  });

  it("is checked against any digest that is given", async () => {
    const body = await pack({ a: "b" });
    const hex = sha256(body).digest("hex");
    const base64 = sha256(body).digest("base64");
    const other = sha256(Buffer.from("other")).digest("base64");
    const good: Parameters<typeof upload>[1][] = [
      { query: `?digest=sha256:${hex}` },
      { headers: { "content-digest": `sha-256=:${base64}:` } },
      { headers: { "content-digest": `sha-512=:AAAA:, sha-256=:${base64}:` } },
      { headers: { digest: `SHA-256=${base64}` } },
      { headers: { "content-digest": "sha-512=:AAAA:" } },
      { query: `?digest=sha256:${hex}`, headers: { digest: `sha-256=${base64}` } },
    ];
    for (const options of good) expect((await upload(body, options)).status).toBe(200);
    const before = await stored();
    const bad: Parameters<typeof upload>[1][] = [
      { query: `?digest=sha256:${"0".repeat(64)}` },
      { query: `?digest=${hex}` },
      { query: "?digest=md5:x" },
      { headers: { "content-digest": `sha-256=:${other}:` } },
      { headers: { "content-digest": "sha-256=:short:" } },
      { headers: { digest: `sha-256=${other}` } },
      { query: `?digest=sha256:${hex}`, headers: { "content-digest": `sha-256=:${other}:` } },
    ];
    for (const options of bad) expect((await upload(body, options)).status).toBe(400);
    expect(await stored()).toBe(before);
  });

  it.each<[string, () => Promise<Body>, number, Record<string, string>?]>([
    ["nothing", async () => "", 400],
    ["no archive", async () => "hello ".repeat(500), 400],
    ["half an archive", async () => (await pack({ a: "x".repeat(5000) })).subarray(0, 3000), 400],
    ["an archive and more", async () => Buffer.concat([await pack({ a: "b" }), Buffer.from("more")]), 400],
    ["half a gzip file", async () => gzipSync(await pack({ a: "b" })).subarray(0, -5), 400],
    ["a bomb", async () => gzipSync(rawFile("bomb", 600)), 413],
    ["more than it may say", async () => "x", 413, { "content-length": String(LIMITS.contextBytes + 1) }],
  ])("is refused as %s, and nothing is left", async (_, body, status, headers = {}) => {
    const before = await stored();
    const said = await upload(await body(), { headers });
    expect(said.status).toBe(status);
    expect(said.body).toMatchObject({ status: "error", error: { message: expect.any(String) } });
    expect(await stored()).toBe(before);
  });

  it("that breaks off leaves nothing, and neither does one whose sender has gone", async () => {
    const before = await stored();
    const whole = await pack({ a: "x".repeat(100_000) });
    const broken = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(whole.subarray(0, 50_000));
        controller.error(new Error("the connection broke"));
      },
    });
    expect((await upload(broken)).status).toBeGreaterThanOrEqual(400);
    const gone = new AbortController();
    const hanging = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(whole.subarray(0, 50_000)),
    });
    const asked = world.fetch(
      new Request(`${PUBLIC_URL}/api/contexts`, {
        method: "PUT",
        headers: { authorization: `Bearer ${alice.token}` },
        body: hanging,
        signal: gone.signal,
        ...({ duplex: "half" } as object),
      }),
    );
    gone.abort();
    expect((await asked).status).toBe(409);
    expect(await stored()).toBe(before);
  });

  it("counts towards a limit of concurrent uploads; a finished one makes room", async () => {
    const whole = await pack({ a: "b" });
    const ends: (() => void)[] = [];
    const slow = () =>
      new ReadableStream<Uint8Array>({
        start(controller) {
          ends.push(() => {
            controller.enqueue(whole);
            controller.close();
          });
        },
      });
    const waiting = Array.from({ length: 4 }, () => upload(slow()));
    let refused: Awaited<ReturnType<typeof upload>> | undefined;
    await until(async () => {
      refused = await upload(whole);
      return refused.status === 429;
    });
    expect(refused?.body).toMatchObject({ error: { code: "limit" } });
    for (const end of ends) end();
    expect((await Promise.all(waiting)).map(({ status }) => status)).toEqual([200, 200, 200, 200]);
    expect((await upload(whole)).status).toBe(200);
  });

  it("counts towards a limit of bytes per day, over all server processes", async () => {
    const bob = await world.someone(EVERYTHING);
    const body = await pack({ a: "b" });
    const day = { key: `upload:${bob.owner}`, limit: 16_384, windowMs: 86_400_000 };
    await world.deps.counters.spend({ ...day, amount: 16_383 });
    expect((await upload(body, { token: bob.token })).status).toBe(200);
    const refused = await upload(body, { token: bob.token });
    expect(refused.status).toBe(429);
    expect(refused.body).toMatchObject({ error: { code: "limit", remedy: expect.any(String) } });
    expect((await upload(body)).status).toBe(200);
  });
});
