import { createHash } from "node:crypto";
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import {
  type ContextListing,
  listContext,
  packFiles,
  type RepackOptions,
  repackContext,
} from "@formation-mcp/artifacts/context";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { chunks, gather, pax, type RawEntry, rawTar } from "@formation-mcp/artifacts/testing/raw-tar";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { HOSTILE } from "./support/hostile.ts";

const LIMITS = { maxBytes: 1_000_000, maxFiles: 100, maxSentBytes: 2_000_000 };

function repack(archive: Uint8Array, options: Partial<RepackOptions> = {}, size?: number) {
  return repackContext(chunks(archive, size), { ...LIMITS, ...options });
}

const repacked = (archive: Uint8Array, options?: Partial<RepackOptions>, size?: number) =>
  gather(repack(archive, options, size).stream);

async function listed(archive: Uint8Array): Promise<ContextListing[]> {
  const entries: ContextListing[] = [];
  for await (const entry of listContext(chunks(archive))) entries.push(entry);
  return entries;
}

const sha256 = (bytes: Uint8Array) => `sha256:${createHash("sha256").update(bytes).digest("hex")}` as const;

const HONEST: RawEntry[] = [
  { name: "./", type: "5" },
  pax({ mtime: "1700000000.5", "SCHILY.xattr.user.x": "y" }),
  { name: "src/run.sh", body: "#!/bin/sh", mode: 0o4755 },
  { name: "data", body: "x".repeat(2000) },
  { name: "link", type: "2", link: "src/run.sh" },
  pax({ path: `${"long/".repeat(30)}é` }),
  { name: "short", body: "" },
];

describe("an honest archive, compressed or not", () => {
  it("becomes a context: its directories, files and links and nothing of its headers", async () => {
    const plain = await repacked(rawTar(HONEST));
    expect((await listed(plain)).filter(({ type }) => type !== "directory")).toEqual([
      { path: "src/run.sh", type: "file", bytes: 9 },
      { path: "data", type: "file", bytes: 2000 },
      { path: "link", type: "link", bytes: 0 },
      { path: `${"long/".repeat(30)}é`, type: "file", bytes: 0 },
    ]);
    expect(plain.includes("SCHILY")).toBe(false);
    for (const size of [1, 511, 100_000]) {
      expect((await repacked(gzipSync(rawTar(HONEST)), {}, size)).equals(plain)).toBe(true);
    }
  });

  it("is told with what was sent and what is in it, and only at its end", async () => {
    const sent = gzipSync(rawTar(HONEST));
    const context = repack(sent, { expected: sha256(sent) });
    expect(() => context.summary()).toThrow();
    await gather(context.stream);
    expect(context.summary()).toEqual({
      sent: { bytes: sent.length, digest: sha256(sent) },
      files: 4,
      bytes: 2009,
    });
  });

  it("may be of several gzip members, padded with zeros to a whole record, or empty", async () => {
    const whole = rawTar(HONEST);
    const members = Buffer.concat([gzipSync(whole.subarray(0, 700)), gzipSync(whole.subarray(700))]);
    const plain = await repacked(whole);
    expect((await repacked(members)).equals(plain)).toBe(true);
    expect((await repacked(Buffer.concat([whole, Buffer.alloc(10_240)]))).equals(plain)).toBe(true);
    expect(await listed(await repacked(rawTar([])))).toEqual([]);
  });

  it("comes out with the same files, and once more as the same bytes", async () => {
    const name = fc.stringMatching(/^[a-zé _-]{1,30}$/).filter((text) => text.trim() !== "");
    const files = fc.dictionary(
      fc.tuple(fc.nat(9), fc.nat(9), name).map(([a, b, rest]) => `d${a}/e${b}/f${rest}`),
      fc.record({ content: fc.uint8Array({ maxLength: 3000 }), executable: fc.boolean() }),
      { maxKeys: 10 },
    );
    await fc.assert(
      fc.asyncProperty(files, fc.boolean(), fc.integer({ min: 1, max: 4000 }), async (given, zip, size) => {
        const packed = await gather(packFiles(given, ["."]));
        const once = await repacked(zip ? gzipSync(packed) : packed, {}, size);
        expect(once.equals(packed)).toBe(true);
        const names = (await listed(once)).filter(({ type }) => type === "file").map(({ path }) => path);
        expect(names.sort()).toEqual(Object.keys(given).sort());
      }),
      { numRuns: 40 },
    );
  });
});

describe("a hostile archive is refused", () => {
  it.each(HOSTILE)("%s", async (_, entries) => {
    const archive = rawTar([{ name: "good", body: "good" }, ...entries]);
    for (const sent of [archive, gzipSync(archive)]) {
      await expect(repacked(sent)).rejects.toMatchObject({
        name: "FormationError",
        code: "invalid",
        details: { remedy: expect.any(String) },
      });
    }
  });

  const whole = rawTar(HONEST);
  const body = rawTar([{ name: "f", body: "x".repeat(2000) }]);
  const dirty = Buffer.concat([body, Buffer.from("x")]);
  it.each<[string, Uint8Array]>([
    ["nothing at all", Buffer.alloc(0)],
    ["one byte", Buffer.from("x")],
    ["a text", Buffer.from("hello ".repeat(400))],
    ["a zip file", Buffer.concat([Buffer.from("PK\u0003\u0004"), Buffer.alloc(2000, 1)])],
    ["no end mark", rawTar(HONEST, false)],
    ["an end amid a header", whole.subarray(0, 700)],
    ["an end amid a file", body.subarray(0, 1500)],
    ["an end between a file and its padding", body.subarray(0, 512 + 2000)],
    ["a byte behind its end", dirty],
    ["a second archive behind its end", Buffer.concat([body, body])],
    ["a text far behind its end", Buffer.concat([body, Buffer.alloc(20_000), Buffer.from("x")])],
    ["a gzip file that is cut off", gzipSync(whole).subarray(0, -4)],
    ["a gzip file without its checksum", gzipSync(whole).subarray(0, -8)],
    ["a gzip header alone", gzipSync(whole).subarray(0, 10)],
    ["a gzip file with a byte behind it", Buffer.concat([gzipSync(whole), Buffer.from("x")])],
    ["a gzip file with a text behind it", Buffer.concat([gzipSync(whole), Buffer.alloc(9000, 0x78)])],
    ["an archive behind a gzip file", Buffer.concat([gzipSync(whole), whole])],
    ["gzip in gzip", gzipSync(gzipSync(whole))],
    ["a size of letters", Buffer.from(body).fill("zz", 124, 126)],
    ["a size in base 256", Buffer.from(body).fill(0x80, 124, 125)],
    ["a wrong checksum", Buffer.from(body).fill("7", 150, 151)],
    ["no ustar header", Buffer.from(body).fill(0, 257, 265)],
  ])("%s", async (_, sent) => {
    for (const size of [1, 4096]) {
      await expect(repacked(sent, {}, size)).rejects.toMatchObject({
        name: "FormationError",
        code: "invalid",
      });
    }
  });

  it("a name that is not UTF-8", async () => {
    const archive = rawTar([{ name: "a?b", body: "x" }]);
    archive[1] = 0xff;
    archive.fill(" ", 148, 156);
    const sum = archive.subarray(0, 512).reduce((total, byte) => total + byte, 0);
    archive.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
    await expect(repacked(archive)).rejects.toMatchObject({ code: "invalid" });
  });

  it("whose digest is another than was said", async () => {
    const expected = sha256(Buffer.from("another"));
    await expect(repacked(whole, { expected })).rejects.toMatchObject({
      code: "invalid",
      details: { field: "digest" },
    });
  });

  it("more bytes than may be sent, or than the files may hold", async () => {
    await expect(repacked(whole, { maxSentBytes: whole.length - 1 })).rejects.toMatchObject({
      code: "limit",
    });
    await expect(repacked(whole, { maxBytes: 2008 })).rejects.toMatchObject({ code: "limit" });
    await expect(repacked(whole, { maxBytes: 2009, maxSentBytes: whole.length })).resolves.toBeDefined();
  });

  it("a bomb, before it has gone off", async () => {
    const huge = rawTar([{ name: "zeros", body: Buffer.alloc(50_000_000) }]);
    const bomb = gzipSync(huge, { level: 9 });
    expect(bomb.length).toBeLessThan(100_000);
    await expect(repacked(bomb)).rejects.toMatchObject({ code: "limit" });
    const lying = gzipSync(Buffer.concat([rawTar([], false), Buffer.alloc(50_000_000)]));
    await expect(repacked(lying)).rejects.toMatchObject({ code: "limit" });
  });

  it("more entries than allowed, also those of which nothing comes", async () => {
    const many = Array.from({ length: 101 }, (_, i): RawEntry => ({ name: `f${i}` }));
    await expect(repacked(rawTar(many))).rejects.toMatchObject({ code: "limit" });
    const comments = Array.from({ length: 60 }, () => pax({ comment: "x".repeat(30_000) }));
    await expect(repacked(gzipSync(rawTar(comments)), { maxBytes: 1000 })).rejects.toMatchObject({
      code: "limit",
    });
  });

  it("a stream that breaks off, that hangs, or that nobody wants any more", async () => {
    async function* broken(): AsyncIterable<Uint8Array> {
      yield whole.subarray(0, 800);
      throw new Error("the connection broke");
    }
    await expect(gather(repackContext(broken(), LIMITS).stream)).rejects.toMatchObject({ code: "internal" });
    const stop = new AbortController();
    async function* hanging(): AsyncIterable<Uint8Array> {
      yield whole.subarray(0, 800);
      stop.abort();
      await new Promise(() => {});
    }
    const given = repackContext(hanging(), { ...LIMITS, signal: stop.signal });
    await expect(gather(given.stream)).rejects.toMatchObject({ code: "cancelled" });
  });

  it("and nothing of it is kept", async () => {
    const dir = await mkdtemp(join(tmpdir(), "repack-"));
    try {
      const artifacts = await openDirectoryArtifacts({ path: dir });
      for (const sent of [dirty, gzipSync(whole).subarray(0, -4), rawTar([...HONEST, { name: "../x" }])]) {
        await expect(artifacts.put(repack(sent).stream, { maxBytes: 1e6 })).rejects.toMatchObject({
          code: "invalid",
        });
      }
      expect(await readdir(join(dir, "tmp"))).toEqual([]);
      expect(await readdir(join(dir, "sha256"))).toEqual([]);
      await artifacts.close();
    } finally {
      await rm(dir, { recursive: true });
    }
  });

  it("whatever bytes are changed, never ends in anything but an error of ours or a context", async () => {
    const sent = gzipSync(whole);
    for (const archive of [whole, sent]) {
      const change = fc.tuple(fc.nat(archive.length - 1), fc.integer({ min: 0, max: 255 }));
      await fc.assert(
        fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 6 }), async (changes) => {
          const changed = Buffer.from(archive);
          for (const [at, byte] of changes) changed[at] = byte;
          const out = await repacked(changed).catch((error: unknown) => error);
          if (Buffer.isBuffer(out)) await listed(out);
          else expect(out).toMatchObject({ name: "FormationError" });
        }),
        { numRuns: 150 },
      );
    }
  });
});
