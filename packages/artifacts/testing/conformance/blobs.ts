// Blobs: bytes under their digest, complete or absent; damage, cancellation and collection.

import { createHash, randomBytes } from "node:crypto";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Artifacts, Digest } from "@formation-mcp/artifacts";
import { FormationError } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import type { ArtifactsUnderTest } from "./harness.ts";

const MiB = 1024 * 1024;

async function* pieces(bytes: Uint8Array, size = 70_000): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function read(content: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of content) parts.push(part);
  return Buffer.concat(parts);
}

const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash("sha256").update(bytes).digest("hex")}`;
const put = (artifacts: Artifacts, bytes: Uint8Array) => artifacts.put(pieces(bytes), { maxBytes: 64 * MiB });

/** Blobs that are put are read back, by any number of users. */
export function describeBlobs(store: () => ArtifactsUnderTest): void {
  it("gives back the bytes that were put, under their SHA-256", async () => {
    const { artifacts, other } = store();
    for (const bytes of [Buffer.alloc(0), Buffer.from("a"), randomBytes(3 * MiB + 1)]) {
      const info = await put(artifacts, bytes);
      expect(info).toEqual({ digest: digestOf(bytes), bytes: bytes.length });
      expect(await other.stat(info.digest)).toEqual(info);
      expect((await read(await other.get(info.digest))).equals(bytes)).toBe(true);
    }
  });

  it("holds little of a large blob in memory, writing and reading", async () => {
    const { artifacts, other } = store();
    const [total, size] = [48 * MiB, 256 * 1024];
    setFlagsFromString("--expose-gc");
    const collect = runInNewContext("gc") as () => void;
    const held = () => {
      collect();
      return process.memoryUsage().arrayBuffers;
    };
    /** The garbage collector runs on another thread, so freed memory may show a moment later. */
    const settled = async () => {
      let least = held() - before;
      for (let i = 0; i < 40 && least >= total / 3; i++) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        least = Math.min(least, held() - before);
      }
      return least;
    };
    const before = held();
    const most: number[] = [];
    async function* large(): AsyncIterable<Uint8Array> {
      for (let at = 0; at < total; at += size) {
        if (at === total - 4 * size) most.push(await settled());
        const chunk = Buffer.alloc(size);
        chunk.writeUInt32LE(at, 0);
        yield chunk;
      }
    }
    const { signal } = new AbortController();
    const { digest } = await artifacts.put(large(), { maxBytes: total, signal });
    let bytes = 0;
    for await (const chunk of await other.get(digest)) {
      bytes += chunk.byteLength;
      if (bytes === total - 4 * size) most.push(await settled());
    }
    expect(bytes).toBe(total);
    for (const bytes of most) expect(bytes).toBeLessThan(total / 3);
    expect(most.length).toBeGreaterThan(0);
  });

  it("takes the same bytes from many at once", async () => {
    const { artifacts, other } = store();
    const bytes = randomBytes(300_000);
    const puts = Array.from({ length: 20 }, (_, i) => put(i % 2 ? artifacts : other, bytes));
    expect(new Set((await Promise.all(puts)).map((info) => info.digest))).toEqual(new Set([digestOf(bytes)]));
    expect((await read(await artifacts.get(digestOf(bytes)))).equals(bytes)).toBe(true);
  });

  it("tells an unknown blob from an invalid digest", async () => {
    const { artifacts } = store();
    const unknown = digestOf(randomBytes(9));
    await expect(artifacts.get(unknown)).rejects.toMatchObject({ code: "not_found" });
    expect(await artifacts.stat(unknown)).toBeNull();
    for (const text of [
      "",
      "sha256:",
      `sha256:${"g".repeat(64)}`,
      "sha256:../../etc/passwd",
      `${unknown}\n`,
    ]) {
      await expect(artifacts.get(text as Digest)).rejects.toMatchObject({ code: "invalid" });
      await expect(artifacts.stat(text as Digest)).rejects.toMatchObject({ code: "invalid" });
    }
  });
}

/** A failed or refused put leaves nothing. */
export function describeFailedPuts(store: () => ArtifactsUnderTest): void {
  it("stops reading a stream that is too large, and keeps nothing of it", async () => {
    const { artifacts } = store();
    let [given, closed] = [0, false];
    async function* endless(): AsyncIterable<Uint8Array> {
      try {
        for (;;) {
          given++;
          yield Buffer.alloc(1000);
        }
      } finally {
        closed = true;
      }
    }
    await expect(artifacts.put(endless(), { maxBytes: 10_000 })).rejects.toMatchObject({
      code: "limit",
      details: { remedy: expect.any(String) },
    });
    expect(given).toBe(11);
    expect(closed).toBe(true);
    expect(await artifacts.stat(digestOf(Buffer.alloc(10_000)))).toBeNull();
    await artifacts.put(pieces(Buffer.alloc(10_000)), { maxBytes: 10_000 });
  });

  it("keeps only what has the digest that was expected", async () => {
    const { artifacts } = store();
    const [bytes, others] = [randomBytes(1000), randomBytes(1000)];
    const expected = digestOf(bytes);
    await expect(artifacts.put(pieces(others), { maxBytes: MiB, expected })).rejects.toMatchObject({
      code: "invalid",
    });
    expect(await artifacts.stat(digestOf(others))).toBeNull();
    expect(await artifacts.put(pieces(bytes), { maxBytes: MiB, expected })).toEqual({
      digest: expected,
      bytes: 1000,
    });
  });

  it("keeps nothing of a stream that fails, and passes its error on", async () => {
    const { artifacts } = store();
    async function* failing(): AsyncIterable<Uint8Array> {
      yield Buffer.from("half");
      throw new FormationError("unavailable", "The sender went away.");
    }
    await expect(artifacts.put(failing(), { maxBytes: MiB })).rejects.toMatchObject({
      code: "unavailable",
      message: "The sender went away.",
    });
    expect(await artifacts.stat(digestOf(Buffer.from("half")))).toBeNull();
  });

  it("ends a put when it is cancelled, though the sender hangs", async () => {
    const { artifacts } = store();
    const controller = new AbortController();
    async function* hanging(): AsyncIterable<Uint8Array> {
      yield Buffer.from("begun");
      controller.abort();
      await new Promise(() => {});
    }
    const putting = artifacts.put(hanging(), { maxBytes: MiB, signal: controller.signal });
    await expect(putting).rejects.toMatchObject({ code: "cancelled" });
  });
}

/** Damaged blobs, and blobs without a reference. */
export function describeCollection(store: () => ArtifactsUnderTest): void {
  it("ends the reading of a damaged blob in an error, sets it aside, and takes it again", async () => {
    const { artifacts, other, damage } = store();
    const bytes = randomBytes(500_000);
    const { digest } = await put(artifacts, bytes);
    await damage(digest);
    await expect(read(await artifacts.get(digest))).rejects.toMatchObject({
      code: "internal",
      details: { remedy: expect.any(String) },
    });
    expect(await artifacts.stat(digest)).toBeNull();
    await put(other, bytes);
    expect((await read(await artifacts.get(digest))).equals(bytes)).toBe(true);
  });

  it("replaces a damaged blob that was not read when the same bytes are put again", async () => {
    const { artifacts, damage } = store();
    const bytes = randomBytes(5_000);
    const { digest } = await put(artifacts, bytes);
    await damage(digest);
    await put(artifacts, bytes);
    expect((await read(await artifacts.get(digest))).equals(bytes)).toBe(true);
  });

  it("collects blobs that are no roots and old enough, and says how many bytes", async () => {
    const { artifacts } = store();
    const [kept, gone] = [await put(artifacts, randomBytes(1000)), await put(artifacts, randomBytes(2000))];
    async function* roots(): AsyncIterable<string> {
      yield kept.digest;
      yield "sha256:of something else";
    }
    expect(await artifacts.collect(roots(), 3_600_000)).toBe(0);
    expect(await artifacts.stat(gone.digest)).not.toBeNull();
    expect(await artifacts.collect(roots(), 0)).toBe(2000);
    expect(await artifacts.stat(gone.digest)).toBeNull();
    expect(await artifacts.stat(kept.digest)).not.toBeNull();
    expect(await artifacts.collect([], 0)).toBe(1000);
  });

  it("collects nothing if the roots cannot be read", async () => {
    const { artifacts } = store();
    const { digest } = await put(artifacts, randomBytes(1000));
    // biome-ignore lint/correctness/useYield: it fails before it has anything to give
    async function* broken(): AsyncIterable<string> {
      throw new FormationError("unavailable", "The database is away.");
    }
    await expect(artifacts.collect(broken(), 0)).rejects.toMatchObject({ code: "unavailable" });
    expect(await artifacts.stat(digest)).not.toBeNull();
  });

  it("gives every reader whole blobs or not_found while others put and collect", async () => {
    const { artifacts, other } = store();
    const bytes = randomBytes(200_000);
    let [whole, missing] = [0, 0];
    for (let round = 0; round < 30; round++) {
      const [info] = await Promise.all([put(artifacts, bytes), other.collect([], 0)]);
      try {
        if ((await read(await other.get(info.digest))).equals(bytes)) whole++;
      } catch (error) {
        expect(error).toMatchObject({ code: "not_found" });
        missing++;
      }
    }
    expect(whole + missing).toBe(30);
  });
}
