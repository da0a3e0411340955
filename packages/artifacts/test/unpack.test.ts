import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packFiles, unpackContext } from "@formation-mcp/artifacts/context";
import { chunks, gather, pax, type RawEntry, rawTar } from "@formation-mcp/artifacts/testing/raw-tar";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { HOSTILE } from "./support/hostile.ts";

const LIMITS = { maxBytes: 1_000_000, maxFiles: 100 };

let base: string;
let inside: string;

/** Everything in a directory: each path with its content. */
async function treeOf(directory: string, prefix = ""): Promise<Record<string, string>> {
  const tree: Record<string, string> = {};
  for (const name of await readdir(join(directory, prefix))) {
    const path = join(prefix, name);
    const stats = await lstat(join(directory, path));
    const mode = (stats.mode & 0o7777).toString(8);
    if (stats.isDirectory()) Object.assign(tree, { [`${path}/`]: mode }, await treeOf(directory, path));
    else if (stats.isSymbolicLink()) tree[path] = `-> ${await readlink(join(directory, path))}`;
    else tree[path] = `${mode} ${await readFile(join(directory, path), "utf8")}`;
  }
  return tree;
}

const unpack = (archive: Uint8Array, limits: Partial<typeof LIMITS> = {}, size?: number) =>
  unpackContext(chunks(archive, size), inside, { ...LIMITS, ...limits });

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "unpack-"));
  inside = join(base, "inside");
  await mkdir(inside);
  await writeFile(join(base, "outside.txt"), "untouched");
});
afterEach(async () => {
  await rm(base, { recursive: true });
});

describe("an honest archive", () => {
  it("becomes its files, with plain modes and no owner's bits", async () => {
    await unpack(
      rawTar([
        { name: "./", type: "5", mode: 0o700 },
        { name: "src/", type: "5", mode: 0o2777 },
        { name: "src/run.sh", body: "#!/bin/sh", mode: 0o4755 },
        { name: "./src/data", body: "x", mode: 0o600 },
        { name: "deep/er/file", body: "" },
        { name: "src/link", type: "2", link: "../deep/er" },
        { name: "src/later", type: "2", link: "nothing-yet" },
      ]),
    );
    expect(await treeOf(inside)).toEqual({
      "src/": "755",
      "src/run.sh": "755 #!/bin/sh",
      "src/data": "644 x",
      "deep/": "755",
      "deep/er/": "755",
      "deep/er/file": "644 ",
      "src/link": "-> ../deep/er",
      "src/later": "-> nothing-yet",
    });
  });

  it("gives files that all have the same time, after 1980", async () => {
    await unpack(
      rawTar([
        { name: "d/f", body: "x" },
        { name: "l", type: "2", link: "d" },
      ]),
    );
    const times = await Promise.all(
      ["d", "d/f", "l"].map(async (name) => (await lstat(join(inside, name))).mtimeMs),
    );
    expect(new Set(times).size).toBe(1);
    expect(times[0]).toBeGreaterThan(Date.UTC(1980, 0, 1));
  });

  it("comes out as it was packed, whatever the files are and however the bytes are cut", async () => {
    const part = fc.stringMatching(/^[a-zA-Zé _.-]{1,40}$/).filter((text) => !/^\.{1,2}$/.test(text));
    const file = fc.record({ content: fc.uint8Array({ maxLength: 2000 }), executable: fc.boolean() });
    const files = fc.dictionary(
      fc
        .array(part, { minLength: 1, maxLength: 6 })
        .map((parts) => parts.map((text, i) => `${i}${text}`).join("/")),
      file,
      { maxKeys: 12 },
    );
    let round = 0;
    await fc.assert(
      fc.asyncProperty(files, fc.integer({ min: 1, max: 3000 }), async (given, size) => {
        const clashes = Object.keys(given).some((a) => Object.keys(given).some((b) => b.startsWith(`${a}/`)));
        fc.pre(!clashes);
        const directory = join(base, `round-${round++}`);
        await mkdir(directory);
        const archive = await gather(packFiles(given, ["."]));
        await unpackContext(chunks(archive, size), directory, LIMITS);
        for (const [name, { content, executable }] of Object.entries(given)) {
          expect((await readFile(join(directory, name))).equals(content)).toBe(true);
          expect((await lstat(join(directory, name))).mode & 0o777).toBe(executable ? 0o755 : 0o644);
        }
        const found = Object.keys(await treeOf(directory)).filter((name) => !name.endsWith("/"));
        expect(found.sort()).toEqual(Object.keys(given).sort());
        const reversed = Object.fromEntries(Object.entries(given).reverse());
        expect((await gather(packFiles(reversed, ["."]))).equals(archive)).toBe(true);
      }),
      { numRuns: 40 },
    );
  });
});

describe("a hostile archive is refused, and nothing comes of it outside", () => {
  it.each(HOSTILE)("%s", async (_, entries) => {
    await expect(unpack(rawTar([{ name: "good", body: "good" }, ...entries]))).rejects.toMatchObject({
      name: "FormationError",
      code: "invalid",
      details: { remedy: expect.any(String) },
    });
    expect(await readdir(base)).toEqual(["inside", "outside.txt"]);
    expect(await readFile(join(base, "outside.txt"), "utf8")).toBe("untouched");
    for (const [name, what] of Object.entries(await treeOf(inside)))
      expect(`${name} ${what}`).not.toContain("->");
  });

  it("more bytes than allowed, before they are written", async () => {
    const archive = rawTar([{ name: "bomb", size: 2_000_000, body: "x" }]);
    await expect(unpack(archive)).rejects.toMatchObject({ code: "limit" });
    expect(await readdir(inside)).toEqual([]);
  });

  it("a size beyond all numbers", async () => {
    const archive = rawTar([{ name: "huge", size: 8 ** 11 - 1, body: "x" }]);
    await expect(unpack(archive)).rejects.toMatchObject({ code: "limit" });
  });

  it("more files than allowed, directories counted", async () => {
    const many = Array.from({ length: 101 }, (_, i): RawEntry => ({ name: `f${i}` }));
    await expect(unpack(rawTar(many))).rejects.toMatchObject({ code: "limit" });
    const deep = rawTar([{ name: Array.from({ length: 49 }, () => "d").join("/") }]);
    await rm(inside, { recursive: true });
    await mkdir(inside);
    await expect(unpack(deep, { maxFiles: 20 })).rejects.toMatchObject({ code: "limit" });
  });

  it("headers without end, of which nothing comes", async () => {
    async function* endless(block: Buffer): AsyncIterable<Uint8Array> {
      for (;;) yield block;
    }
    const comment = rawTar([pax({ comment: "x".repeat(20_000) })], false);
    for (const block of [comment, Buffer.alloc(64 * 1024), rawTar([{ name: "./", type: "5" }], false)]) {
      await expect(unpackContext(endless(block), inside, LIMITS)).rejects.toMatchObject({ code: "limit" });
    }
  });

  it("a maze of links that would take forever to walk", async () => {
    const turns = "d/../".repeat(300);
    const links = Array.from({ length: 20_000 }, (_, i): RawEntry[] => [
      pax({ linkpath: `${turns}l${(i + 1) % 20_000}` }),
      { name: `l${i}`, type: "2", link: "x" },
    ]).flat();
    const archive = rawTar([{ name: "d/", type: "5" }, ...links]);
    const limits = { maxBytes: 100_000_000, maxFiles: 50_000 };
    await expect(unpack(archive, limits, 1 << 20)).rejects.toMatchObject({ code: "invalid" });
  }, 20_000);

  it("what is no archive, or only the beginning of one", async () => {
    const whole = rawTar([{ name: "f", body: "x".repeat(2000) }], false);
    for (const bytes of [
      Buffer.from("hello ".repeat(400)),
      whole.subarray(0, 300),
      whole.subarray(0, 1500),
    ]) {
      await expect(unpack(bytes)).rejects.toMatchObject({ code: "invalid" });
      await rm(inside, { recursive: true });
      await mkdir(inside);
    }
  });

  it("whatever bytes are changed, never ends in anything but an error of ours or files inside", async () => {
    const archive = rawTar([
      { name: "d/", type: "5" },
      { name: "d/f", body: "content" },
      { name: "l", type: "2", link: "d/f" },
      pax({ path: "long/name" }),
      { name: "x", body: "y" },
    ]);
    let round = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.nat(archive.length - 1), fc.integer({ min: 0, max: 255 })), {
          minLength: 1,
          maxLength: 8,
        }),
        async (changes) => {
          const changed = Buffer.from(archive);
          for (const [at, byte] of changes) changed[at] = byte;
          const directory = join(base, "rounds", `${round++}`);
          await mkdir(directory, { recursive: true });
          await unpackContext(chunks(changed), directory, LIMITS).catch((error: unknown) => {
            expect(error).toMatchObject({ name: "FormationError" });
          });
          expect((await readdir(base)).sort()).toEqual(["inside", "outside.txt", "rounds"]);
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe("unpacking", () => {
  it("needs an empty directory", async () => {
    await writeFile(join(inside, "there"), "x");
    await expect(unpack(rawTar([]))).rejects.toMatchObject({ code: "internal" });
  });

  it("says that its stream failed, and why", async () => {
    async function* failing(): AsyncIterable<Uint8Array> {
      yield rawTar([{ name: "f", body: "x".repeat(5000) }]).subarray(0, 2000);
      throw Object.assign(new Error("away"), { code: "EPIPE" });
    }
    await expect(unpackContext(failing(), inside, LIMITS)).rejects.toMatchObject({
      code: "internal",
      cause: { code: "EPIPE" },
    });
  });

  it("ends when it is cancelled, though its stream hangs", async () => {
    const controller = new AbortController();
    async function* hanging(): AsyncIterable<Uint8Array> {
      yield rawTar([{ name: "f", body: "x".repeat(5000) }]).subarray(0, 2000);
      controller.abort();
      await new Promise(() => {});
    }
    const unpacking = unpackContext(hanging(), inside, { ...LIMITS, signal: controller.signal });
    await expect(unpacking).rejects.toMatchObject({ code: "cancelled" });
  });
});
