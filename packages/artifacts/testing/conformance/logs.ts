// Logs: lines in order, filtered, paged and followed. Paging is a property test against a list in memory.

import type { Artifacts, LogLine, LogQuery } from "@formation-mcp/artifacts";
import { LIMITS } from "@formation-mcp/contract";
import fc from "fast-check";
import { expect, it } from "vitest";
import type { ArtifactsUnderTest } from "./harness.ts";

/** More bytes than any log of these tests has. */
const UNLIMITED = 64 * 1024 * 1024;
const line = (text: string, stream = "stdout", at = 1): LogLine => ({ at, stream, text });
const texts = (lines: LogLine[]) => lines.map(({ text }) => text);

/** All pages of a query, in order. */
async function pages(artifacts: Artifacts, name: string, query: LogQuery): Promise<LogLine[]> {
  const lines: LogLine[] = [];
  for (let cursor = query.cursor; ; ) {
    const page = await artifacts.readLog(name, { ...query, ...(cursor === undefined ? {} : { cursor }) });
    lines.push(...page.lines);
    if (page.more && page.lines.length === 0) throw new Error("a page that leads nowhere");
    if (!page.more) return lines;
    cursor = page.cursor;
  }
}

const someLines = fc.array(
  fc.record({
    at: fc.integer({ min: 0, max: 20 }),
    stream: fc.constantFrom("stdout", "stderr", "console"),
    text: fc.oneof(
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.constantFrom("", "ERROR: no", "error in é", "\n", "\u0000", "\ud800", "\u2028 x", "ok"),
    ),
  }),
  { maxLength: 120 },
);

/** What a reader receives. */
export function describeLogReading(store: () => ArtifactsUnderTest): void {
  const freshName = nameMaker();

  it("come back in the order they came, over all streams, exactly as they came", async () => {
    const { artifacts, other } = store();
    await fc.assert(
      fc.asyncProperty(someLines, fc.integer({ min: 1, max: 50 }), async (lines, step) => {
        const name = freshName();
        for (let at = 0; at < lines.length; at += step) {
          await artifacts.appendLog(name, lines.slice(at, at + step));
        }
        expect((await other.readLog(name, { maxBytes: UNLIMITED })).lines).toEqual(lines);
      }),
      { numRuns: 25 },
    );
  });

  it("are the concatenation of their pages, whatever is filtered and however small the pages", async () => {
    const { artifacts } = store();
    const query = fc.record(
      {
        streams: fc.subarray(["stdout", "stderr", "console"]),
        since: fc.integer({ min: 0, max: 20 }),
        grep: fc.constantFrom("error", "É", "o", "absent"),
        maxBytes: fc.integer({ min: 200, max: 600 }),
      },
      { requiredKeys: ["maxBytes"] },
    );
    await fc.assert(
      fc.asyncProperty(someLines, query, async (lines, wanted) => {
        const name = freshName();
        await artifacts.appendLog(name, lines);
        const expected = lines.filter(
          ({ stream, at, text }) =>
            (wanted.streams ?? [stream]).includes(stream) &&
            at >= (wanted.since ?? 0) &&
            text.toLowerCase().includes((wanted.grep ?? "").toLowerCase()),
        );
        expect(await pages(artifacts, name, wanted)).toEqual(expected);
        const tail = await artifacts.readLog(name, { ...wanted, tail: 3, maxBytes: UNLIMITED });
        expect(tail.lines).toEqual(expected.slice(-3));
        expect(tail.more).toBe(false);
      }),
      { numRuns: 25 },
    );
  });

  it("give no page more bytes than asked, but always a line", async () => {
    const { artifacts } = store();
    await artifacts.appendLog("bld_a", [line("x".repeat(50)), line("é".repeat(50)), line("short")]);
    const page = await artifacts.readLog("bld_a", { maxBytes: 10 });
    expect(page).toMatchObject({ lines: [line("x".repeat(9))], more: true });
    const next = await artifacts.readLog("bld_a", { maxBytes: 10, cursor: page.cursor });
    expect(next).toMatchObject({ lines: [line("éééé")], more: true });
    const tail = await artifacts.readLog("bld_a", { maxBytes: 60, tail: 3 });
    expect(tail).toMatchObject({ lines: [line("short")], more: true });
  });

  it("can be followed from a cursor, also from the end, and from before anything was there", async () => {
    const { artifacts, other } = store();
    const before = await other.readLog("vm_b", { maxBytes: UNLIMITED });
    expect(before).toMatchObject({ lines: [], more: false });
    await artifacts.appendLog("vm_b", [line("one"), line("two", "stderr")]);
    const end = await other.readLog("vm_b", { maxBytes: UNLIMITED, tail: 0 });
    expect(end.lines).toEqual([]);
    await artifacts.appendLog("vm_b", [line("three")]);
    expect(texts((await other.readLog("vm_b", { maxBytes: UNLIMITED, cursor: end.cursor })).lines)).toEqual([
      "three",
    ]);
    const all = await other.readLog("vm_b", { maxBytes: UNLIMITED, cursor: before.cursor, tail: 1 });
    expect(texts(all.lines)).toEqual(["one", "two", "three"]);
    const filtered = await other.readLog("vm_b", {
      maxBytes: UNLIMITED,
      cursor: end.cursor,
      grep: "no such",
    });
    expect(filtered).toMatchObject({ lines: [], cursor: all.cursor });
  });

  it("give a follower each line once while they are written", async () => {
    const { artifacts, other } = store();
    const all = Array.from({ length: 600 }, (_, i) => line(`line ${i}`, i % 3 ? "stdout" : "stderr", i));
    let written = false;
    const writing = (async () => {
      for (let at = 0; at < all.length; at += 7) await artifacts.appendLog("vm_c.1", all.slice(at, at + 7));
      written = true;
    })();
    const seen: LogLine[] = [];
    for (let cursor: string | undefined; ; ) {
      const last = written;
      const page = await other.readLog("vm_c.1", { maxBytes: 2000, ...(cursor ? { cursor } : {}) });
      seen.push(...page.lines);
      cursor = page.cursor;
      if (last && !page.more) break;
    }
    await writing;
    expect(seen).toEqual(all);
  });
}

/** What is kept, cut, removed and refused. */
export function describeLogWriting(store: () => ArtifactsUnderTest): void {
  it("keep the newest lines of a stream that floods, and all of one that does not", async () => {
    const { artifacts } = store();
    await artifacts.appendLog("vm_d", [line("first words", "stderr", 0)]);
    const { cursor } = await artifacts.readLog("vm_d", { maxBytes: UNLIMITED });
    const size = 10_000;
    const count = Math.ceil((LIMITS.logBytesPerStream * 1.5) / size);
    for (let at = 0; at < count; at += 50) {
      const flood = Array.from({ length: 50 }, (_, i) =>
        line(`${at + i} `.padEnd(size, "z"), "stdout", at + i),
      );
      await artifacts.appendLog("vm_d", flood);
    }
    const kept = await pages(artifacts, "vm_d", { maxBytes: 4_000_000 });
    const flooded = kept.filter(({ stream }) => stream === "stdout");
    expect(flooded.length * size).toBeLessThanOrEqual(LIMITS.logBytesPerStream);
    expect(flooded.length * size).toBeGreaterThan(LIMITS.logBytesPerStream * 0.8);
    const numbers = flooded.map(({ at }) => at);
    expect(numbers).toEqual(numbers.map((_, i) => (numbers[0] ?? 0) + i));
    expect(kept[0]).toEqual(line("first words", "stderr", 0));
    // A cursor whose next lines were dropped continues with the oldest remaining line.
    const followed = await artifacts.readLog("vm_d", { maxBytes: 30_000, cursor });
    expect(followed.lines[0]).toEqual(flooded[0]);
  });

  it("hold lines up to their limit, and cut longer ones between characters", async () => {
    const { artifacts } = store();
    const long = "é".repeat(LIMITS.logLineBytes);
    await artifacts.appendLog("vm_e", [
      line("\u0000".repeat(LIMITS.logLineBytes)),
      line(`a${long}`),
      line("next"),
    ]);
    const { lines } = await artifacts.readLog("vm_e", { maxBytes: UNLIMITED });
    expect(lines[0]?.text).toBe("\u0000".repeat(LIMITS.logLineBytes));
    expect(lines[1]?.text).toBe(`a${long}`.slice(0, LIMITS.logLineBytes / 2));
    expect(lines[2]?.text).toBe("next");
  });

  it("begin anew after they were removed, also for a reader with an old cursor", async () => {
    const { artifacts, other } = store();
    await artifacts.appendLog("vm_f", [line("one"), line("two")]);
    const { cursor } = await other.readLog("vm_f", { maxBytes: UNLIMITED });
    await other.removeLog("vm_f");
    await other.removeLog("vm_f");
    expect(await other.readLog("vm_f", { maxBytes: UNLIMITED })).toMatchObject({ lines: [], more: false });
    await artifacts.appendLog("vm_f", [line("new")]);
    expect(texts((await other.readLog("vm_f", { maxBytes: UNLIMITED, cursor })).lines)).toEqual(["new"]);
  });

  it("are listed by name", async () => {
    const { artifacts, other } = store();
    expect(await other.logNames()).toEqual([]);
    await artifacts.appendLog("vm_b.2", [line("x")]);
    await artifacts.appendLog("bld_a", [line("x")]);
    expect((await other.logNames()).sort()).toEqual(["bld_a", "vm_b.2"]);
    await other.removeLog("bld_a");
    expect(await artifacts.logNames()).toEqual(["vm_b.2"]);
  });

  it("have names, streams and cursors of one form, whatever a caller tries", async () => {
    const { artifacts } = store();
    const names = [
      "",
      ".",
      "..",
      "../vm_a",
      "vm_a/b",
      "/vm_a",
      "vm_",
      "vm-a",
      "VM_A",
      "vm_a.",
      "vm_a.x",
      "vm_a.1.2",
    ];
    for (const name of [...names, "vm_a\0", "vm_a\n", `vm_${"a".repeat(300)}`]) {
      await expect(artifacts.appendLog(name, [line("x")])).rejects.toMatchObject({ code: "invalid" });
      await expect(artifacts.readLog(name, { maxBytes: 9 })).rejects.toMatchObject({ code: "invalid" });
      await expect(artifacts.removeLog(name)).rejects.toMatchObject({ code: "invalid" });
    }
    for (const stream of ["", "../x", "a.b", "A", "out/1"]) {
      await expect(artifacts.appendLog("vm_a", [line("x", stream)])).rejects.toMatchObject({
        code: "invalid",
      });
    }
    for (const cursor of ["", "x", "l", "l-1", "l1\n", "1", `l${"z".repeat(20)}`]) {
      await expect(artifacts.readLog("vm_a", { maxBytes: 9, cursor })).rejects.toMatchObject({
        code: "invalid",
        details: { field: "cursor" },
      });
    }
    expect(await artifacts.logNames()).toEqual([]);
  });
}

function nameMaker(): () => string {
  let made = 0;
  return () => `vm_log${made++}.1`;
}
