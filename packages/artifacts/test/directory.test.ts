import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import { mkdtemp, readdir, rm, stat, truncate } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Artifacts, Digest, LogLine } from "@formation-mcp/artifacts";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { LIMITS, newId } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const ALL = 64 * 1024 * 1024;
const line = (text: string, stream = "stdout", at = 1): LogLine => ({ at, stream, text });

let path: string;
let artifacts: Artifacts;

async function* once(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  yield bytes;
}
const put = (bytes: Uint8Array, store = artifacts) => store.put(once(bytes), { maxBytes: ALL });
const textsOf = async (name: string) =>
  (await artifacts.readLog(name, { maxBytes: ALL })).lines.map(({ text }) => text);
const segments = async (name: string) => (await readdir(join(path, "logs", name))).sort();

beforeEach(async () => {
  path = join(await mkdtemp(join(tmpdir(), "artifacts-")), "state");
  artifacts = await openDirectoryArtifacts({ path });
});
afterEach(async () => {
  await artifacts.close();
  await rm(join(path, ".."), { recursive: true });
});

describe("the directory of artifacts", () => {
  it("belongs to its user alone, in all its parts", async () => {
    await put(Buffer.from("x"));
    await artifacts.appendLog("vm_a", [line("x")]);
    const modes = new Set<string>();
    for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
      const { mode } = await stat(join(entry.parentPath, entry.name));
      modes.add(`${entry.isDirectory() ? "directory" : "file"} ${(mode & 0o777).toString(8)}`);
    }
    expect([...modes].sort()).toEqual(["directory 700", "file 600"]);
  });

  it("says what is wrong when it cannot be made", async () => {
    writeFileSync(join(path, "..", "file"), "");
    await expect(openDirectoryArtifacts({ path: join(path, "..", "file", "x") })).rejects.toMatchObject({
      code: "unavailable",
      details: { remedy: expect.any(String) },
    });
  });

  it("loses what a put left that was killed, and nothing of one that runs", async () => {
    const code = `
      import { openDirectoryArtifacts } from ${JSON.stringify(import.meta.resolve("@formation-mcp/artifacts/directory"))};
      const artifacts = await openDirectoryArtifacts({ path: ${JSON.stringify(path)} });
      async function* slow() { yield Buffer.alloc(1000000); console.log("begun"); await new Promise(() => setInterval(() => {}, 1000)); }
      await artifacts.put(slow(), { maxBytes: 1e9 });`;
    const child = spawn(
      process.execPath,
      ["--conditions=formation-source", "--input-type=module", "-e", code],
      {
        stdio: ["ignore", "pipe", "inherit"],
      },
    );
    const gone = new Promise((resolve) => child.once("exit", resolve));
    try {
      await new Promise((resolve) => child.stdout.once("data", resolve));
      await (await openDirectoryArtifacts({ path })).close();
      expect(await readdir(join(path, "tmp"))).toHaveLength(1);
    } finally {
      child.kill("SIGKILL");
      await gone;
    }
    await (await openDirectoryArtifacts({ path })).close();
    expect(await readdir(join(path, "tmp"))).toEqual([]);
    expect(await readdir(join(path, "sha256"))).toEqual([]);
  });

  it("measures the age of blobs by the clock it was given", async () => {
    let now = 1_000_000_000_000;
    const timed = await openDirectoryArtifacts({ path, clock: { now: () => now } });
    const { digest } = await put(Buffer.from("blob"), timed);
    now += 60_000;
    expect(await timed.collect([], 60_001)).toBe(0);
    expect(await timed.collect([], 60_000)).toBe(4);
    await put(Buffer.from("blob"), timed);
    now += 60_000;
    await put(Buffer.from("blob"), timed);
    expect(await timed.collect([], 1)).toBe(0);
    expect(await timed.stat(digest)).not.toBeNull();
    await timed.close();
  });

  it("sets a damaged blob aside where an operator can look at it", async () => {
    const { digest } = await put(randomBytes(100_000));
    const hex = digest.slice(7);
    await truncate(join(path, "sha256", hex.slice(0, 2), hex), 50_000);
    await expect(async () => {
      for await (const _ of await artifacts.get(digest as Digest));
    }).rejects.toMatchObject({ code: "internal" });
    expect((await readdir(join(path, "damaged")))[0]).toContain(hex);
  });
});

describe("logs in a directory", () => {
  it("lose one line to a write that was torn, at any byte, and go on", async () => {
    await fc.assert(
      fc.asyncProperty(fc.nat(60), fc.boolean(), async (cut, reopened) => {
        const name = `vm_torn${cut}${reopened ? "a" : "b"}`;
        await artifacts.removeLog(name);
        await artifacts.appendLog(name, [line("first"), line("second, which is torn")]);
        const [segment = ""] = await segments(name);
        const file = join(path, "logs", name, segment);
        const whole = readFileSync(file).length;
        const kept = Math.max(whole - cut, 0);
        await truncate(file, kept);
        const writer = reopened ? await openDirectoryArtifacts({ path }) : artifacts;
        await writer.appendLog(name, [line("third"), line("fourth")]);
        const seen = await textsOf(name);
        expect(seen.slice(-2)).toEqual(["third", "fourth"]);
        expect(["first", "second, which is torn"].slice(0, seen.length - 2)).toEqual(seen.slice(0, -2));
        const first = await artifacts.readLog(name, { maxBytes: 1 });
        const rest = await artifacts.readLog(name, { maxBytes: ALL, cursor: first.cursor });
        expect(rest.lines.at(-1)?.text).toBe("fourth");
      }),
      { numRuns: 60 },
    );
  });

  it("skip damage in their midst", async () => {
    await artifacts.appendLog("vm_a", [line("before")]);
    const [segment = ""] = await segments("vm_a");
    const file = join(path, "logs", "vm_a", segment);
    for (const damage of [
      Buffer.alloc(5000),
      randomBytes(3000),
      Buffer.from('[1,2]\n{"a":1}\nnull\n[null,1,"x"]\n'),
    ]) {
      appendFileSync(file, damage);
    }
    appendFileSync(file, Buffer.alloc(400_000, "x"));
    await artifacts.appendLog("vm_a", [line("after")]);
    expect(await textsOf("vm_a")).toEqual(["before", "after"]);
    const tail = await artifacts.readLog("vm_a", { maxBytes: ALL, tail: 5 });
    expect(tail.lines.map(({ text }) => text)).toEqual(["before", "after"]);
  });

  it("may be written by one process after the other", async () => {
    const other = await openDirectoryArtifacts({ path });
    for (let i = 0; i < 20; i++)
      await (i % 2 ? other : artifacts).appendLog("vm_a", [line(`${i}`, i % 3 ? "a" : "b")]);
    expect(await textsOf("vm_a")).toEqual(Array.from({ length: 20 }, (_, i) => `${i}`));
    await other.close();
  });

  it("are written in turn by callers that do not wait", async () => {
    const appends = Array.from({ length: 50 }, (_, i) =>
      artifacts.appendLog("vm_a", [line(`${i}`), line(`${i}`, "stderr")]),
    );
    await Promise.all(appends);
    expect(await textsOf("vm_a")).toEqual(Array.from({ length: 100 }, (_, i) => `${Math.floor(i / 2)}`));
  });

  it("have a tail that is found without reading the whole log", async () => {
    const flood = Array.from({ length: 1000 }, (_, i) => line(`${i} `.padEnd(1000, "x")));
    for (let i = 0; i < 8; i++) await artifacts.appendLog("vm_a", flood);
    const read = () => Number(/rchar: (\d+)/.exec(readFileSync("/proc/self/io", "utf8"))?.[1]);
    const before = read();
    const tail = await artifacts.readLog("vm_a", { tail: 20, maxBytes: 20_000 });
    const cost = read() - before;
    expect(tail.lines).toHaveLength(19);
    expect(cost).toBeLessThan(500_000);
    const again = read();
    expect((await artifacts.readLog("vm_a", { cursor: tail.cursor, maxBytes: 20_000 })).lines).toEqual([]);
    expect(read() - again).toBeLessThan(500_000);
  });

  it("stay within their bound on disk, several streams at once", async () => {
    const flood = Array.from({ length: 900 }, (_, i) =>
      line("\u0001".repeat(1000), i % 2 ? "stdout" : "stderr"),
    );
    for (let i = 0; i < 8; i++) await artifacts.appendLog("vm_a", flood);
    let bytes = 0;
    for (const name of await segments("vm_a")) bytes += (await stat(join(path, "logs", "vm_a", name))).size;
    expect(bytes).toBeLessThanOrEqual(2 * LIMITS.logBytesPerStream);
    expect(bytes).toBeGreaterThan(LIMITS.logBytesPerStream);
  });

  it("take the ids of records as names, with and without an attempt", async () => {
    for (const kind of ["bld", "vm", "op"] as const) {
      const id = newId(kind);
      await artifacts.appendLog(id, [line("x")]);
      await artifacts.appendLog(`${id}.12`, [line("x")]);
    }
    expect(await artifacts.logNames()).toHaveLength(6);
  });

  it("can be read while a writer in another process floods and is killed, each line once and in order", async () => {
    const code = `
      import { openDirectoryArtifacts } from ${JSON.stringify(import.meta.resolve("@formation-mcp/artifacts/directory"))};
      const artifacts = await openDirectoryArtifacts({ path: ${JSON.stringify(path)} });
      for (let i = 0; ; ) {
        const lines = [];
        for (let j = 0; j < 40; j++, i++) lines.push({ at: i, stream: j % 3 ? "stdout" : "stderr", text: "line " + i });
        await artifacts.appendLog("vm_a", lines);
      }`;
    const child = spawn(
      process.execPath,
      ["--conditions=formation-source", "--input-type=module", "-e", code],
      {
        stdio: ["ignore", "ignore", "inherit"],
      },
    );
    const gone = new Promise((resolve) => child.once("exit", resolve));
    const seen: number[] = [];
    let cursor: string | undefined;
    const follow = async () => {
      const page = await artifacts.readLog("vm_a", { maxBytes: 100_000, ...(cursor ? { cursor } : {}) });
      cursor = page.cursor;
      seen.push(...page.lines.map(({ at }) => at));
      return page.more;
    };
    try {
      await waitFor(
        async () => {
          await follow();
          return seen.length > 5000;
        },
        { what: "lines", timeoutMs: 20_000, everyMs: 1 },
      );
    } finally {
      child.kill("SIGKILL");
      await gone;
    }
    while (await follow());
    expect(seen).toEqual(seen.map((_, i) => i));
    await artifacts.appendLog("vm_a", [line("the next writer", "stdout", -1)]);
    await follow();
    expect(seen.at(-1)).toBe(-1);
  }, 40_000);
});
