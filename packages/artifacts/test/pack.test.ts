import { execFileSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { type PackDirectoryOptions, packDirectory, unpackContext } from "@formation-mcp/artifacts/context";
import { gather, namesIn } from "@formation-mcp/artifacts/testing/raw-tar";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

let base: string;
let dir: string;

function write(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(dir, dirname(name)), { recursive: true });
    writeFileSync(join(dir, name), text);
  }
}

const pack = (include: string[], options: Partial<PackDirectoryOptions> = {}) =>
  packDirectory({ dir, include, allow: [base], maxBytes: 1_000_000, maxFiles: 1000, ...options });

const packed = async (include: string[], options: Partial<PackDirectoryOptions> = {}) =>
  namesIn(await gather((await pack(include, options)).stream));

beforeEach(async () => {
  base = await mkdtemp(join(tmpdir(), "pack-"));
  dir = join(base, "project");
  mkdirSync(dir);
});
afterEach(async () => {
  await rm(base, { recursive: true });
});

describe("packing a directory", () => {
  it("takes what include names, with the directories above it, sorted", async () => {
    write({
      "src/main.py": "1",
      "src/lib/util.py": "2",
      "src-old/x": "3",
      "README.md": "4",
      "data/set/a.csv": "5",
    });
    mkdirSync(join(dir, "src/empty"));
    expect(await packed(["src", "data/set/a.csv"])).toEqual([
      "data/",
      "data/set/",
      "data/set/a.csv",
      "src/",
      "src/empty/",
      "src/lib/",
      "src/lib/util.py",
      "src/main.py",
    ]);
    expect(await packed(["."])).toHaveLength(11);
    expect(await packed(["./src/", "src", "src/main.py"])).toHaveLength(5);
    expect(await packed([])).toEqual([]);
  });

  it("gives the same bytes for the same files, whatever their times, owners and modes", async () => {
    write({ "a/b": "x", c: "y" });
    const before = await gather((await pack(["."])).stream);
    rmSync(dir, { recursive: true });
    mkdirSync(dir);
    write({ c: "y", "a/b": "x" });
    execFileSync("chmod", ["0606", join(dir, "c")]);
    execFileSync("touch", ["-d", "2001-01-01", join(dir, "a/b"), join(dir, "a")]);
    expect((await gather((await pack(["a", "c"])).stream)).equals(before)).toBe(true);
  });

  it("is read by tar(1) as plain entries of nobody and of no time", async () => {
    write({ "run.sh": "#!/bin/sh" });
    execFileSync("chmod", ["4711", join(dir, "run.sh")]);
    const archive = await gather((await pack(["."])).stream);
    const listing = execFileSync("tar", ["-tvf", "-", "--numeric-owner", "--utc"], {
      input: archive,
    }).toString();
    expect(listing.replace(/\s+/g, " ").trim()).toBe("-rwxr-xr-x 0/0 9 1970-01-01 00:00 run.sh");
  });

  it("comes out as it went in, with long and foreign names, links and large files", async () => {
    const long = `${"n".repeat(120)}é/${"m".repeat(200)}`;
    write({ [long]: "long", "big.bin": "b".repeat(700_000), "empty file": "", "-rf": "dash" });
    symlinkSync("../big.bin", join(dir, dirname(long), "up"));
    const { stream, files } = await pack(["."]);
    const out = join(base, "out");
    mkdirSync(out);
    await unpackContext(stream, out, { maxBytes: 1_000_000, maxFiles: 100 });
    expect(files).toBe(5);
    expect(execFileSync("diff", ["-r", "--no-dereference", dir, out]).toString()).toBe("");
  });

  it("leaves likely secrets out, at any depth, says so, and takes those that are named", async () => {
    write({
      "app/.env": "1",
      "app/.env.local": "1",
      "app/deep/.ssh/id": "1",
      "app/tls/Server.KEY": "1",
      "app/tls/ca.pem": "1",
      ".git/config": "1",
      ".aws/credentials": "1",
      ".gnupg/x": "1",
      "app/keys.txt": "1",
    });
    const all = await pack(["."]);
    expect(namesIn(await gather(all.stream))).toEqual(["app/", "app/deep/", "app/keys.txt", "app/tls/"]);
    expect(all.left_out.sort()).toEqual([
      ".aws",
      ".git",
      ".gnupg",
      "app/.env",
      "app/.env.local",
      "app/deep/.ssh",
      "app/tls/Server.KEY",
      "app/tls/ca.pem",
    ]);
    const named = await pack(["app", "app/.env", "app/tls/ca.pem"]);
    const names = namesIn(await gather(named.stream));
    expect(names).toContain("app/.env");
    expect(names).toContain("app/tls/ca.pem");
    expect(named.left_out).not.toContain("app/.env");
    expect(names).not.toContain("app/.env.local");
  });

  it("honours .dockerignore, its exceptions too", async () => {
    write({
      ".dockerignore": "node_modules\n*.log\n!keep.log\nbuild/*\n!build/out\n# a remark\n",
      "node_modules/x/index.js": "1",
      "a.log": "1",
      "keep.log": "1",
      "build/tmp/x": "1",
      "build/out/app": "1",
      "main.js": "1",
    });
    expect(await packed(["."])).toEqual([
      ".dockerignore",
      "build/",
      "build/out/",
      "build/out/app",
      "keep.log",
      "main.js",
    ]);
    await expect(pack(["main.js", "a.log"])).rejects.toMatchObject({
      code: "invalid",
      details: { field: "include[1]", remedy: expect.stringContaining(".dockerignore") },
    });
  });

  it("says which include path names nothing, and what may have been meant", async () => {
    write({ "src/server.py": "1", "requirements.txt": "1" });
    await expect(pack(["src", "requirement.txt"])).rejects.toMatchObject({
      code: "invalid",
      details: { field: "include[1]", remedy: expect.stringContaining('"requirements.txt"') },
    });
    await expect(pack(["src/Server.py"])).rejects.toMatchObject({
      details: { field: "include[0]", remedy: expect.stringContaining('"src/server.py"') },
    });
    await expect(pack(["nowhere/at/all"])).rejects.toMatchObject({ code: "invalid" });
    await expect(pack(["src/server.py/x"])).rejects.toMatchObject({ code: "invalid" });
    for (const path of ["/etc/passwd", "../outside", "src/../../outside", "a\0b"]) {
      await expect(pack([path])).rejects.toMatchObject({ code: "invalid", details: { field: "include[0]" } });
    }
  });

  it("keeps links that stay inside, and refuses those that leave, by whatever way", async () => {
    write({ "src/a": "1", "lib/b": "2" });
    symlinkSync("../lib/b", join(dir, "src/to-b"));
    symlinkSync("missing", join(dir, "src/dangling"));
    expect(await packed(["src"])).toEqual([
      "src/",
      "src/a",
      "src/dangling -> missing",
      "src/to-b -> ../lib/b",
    ]);
    symlinkSync("..", join(dir, "lib/up"));
    for (const target of ["/etc/passwd", "../../x", "../lib/up/../x", join(dir, "lib/b"), "evil"]) {
      symlinkSync(target, join(dir, "src/evil"));
      await expect(pack(["src"])).rejects.toMatchObject({
        code: "invalid",
        message: expect.stringContaining('"src/evil"'),
        details: { remedy: expect.stringContaining(".dockerignore") },
      });
      rmSync(join(dir, "src/evil"));
    }
    symlinkSync("lib", join(dir, "way"));
    await expect(pack(["way/b"])).rejects.toMatchObject({
      code: "invalid",
      details: { field: "include[0]", remedy: expect.stringContaining('"lib"') },
    });
  });

  it("must lie in an allowed directory, really and not only by its spelling", async () => {
    write({ f: "1" });
    const outside = await mkdtemp(join(tmpdir(), "outside-"));
    try {
      symlinkSync(outside, join(base, "looks-inside"));
      mkdirSync(join(outside, "project2"));
      for (const path of [
        outside,
        join(base, "looks-inside"),
        join(base, "looks-inside/project2"),
        `${dir}/../..`,
      ]) {
        await expect(pack(["."], { dir: path })).rejects.toMatchObject({ code: "forbidden" });
      }
      mkdirSync(`${dir}-more`);
      await expect(pack(["."], { dir: `${dir}-more`, allow: [dir] })).rejects.toMatchObject({
        code: "forbidden",
      });
      await expect(pack(["."], { allow: [] })).rejects.toMatchObject({ code: "forbidden" });
      expect(await packed(["."], { dir, allow: [dir] })).toEqual(["f"]);
      symlinkSync(base, join(outside, "allowed-by-link"));
      expect(await packed(["."], { allow: [join(outside, "allowed-by-link")] })).toEqual(["f"]);
      await expect(pack(["."], { dir: join(base, "missing") })).rejects.toMatchObject({ code: "invalid" });
      await expect(pack(["."], { dir: join(dir, "f") })).rejects.toMatchObject({ code: "invalid" });
    } finally {
      await rm(outside, { recursive: true });
    }
  });

  it("refuses pipes, sockets and odd names, and never waits for them", async () => {
    execFileSync("mkfifo", [join(dir, "pipe")]);
    await expect(pack(["."])).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("pipe"),
    });
    await expect(pack(["pipe"])).rejects.toMatchObject({ code: "invalid" });
    renameSync(join(dir, "pipe"), join(dir, ".dockerignore"));
    await expect(pack(["."])).rejects.toMatchObject({ code: "invalid" });
    rmSync(join(dir, ".dockerignore"));
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(join(dir, "socket"), resolve));
    await expect(pack(["."])).rejects.toMatchObject({ code: "invalid" });
    await new Promise((resolve) => server.close(resolve));
    write({ "line\nend": "1" });
    await expect(pack(["."])).rejects.toMatchObject({ code: "invalid" });
    rmSync(join(dir, "line\nend"));
    writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0xff, 0xfe])]), "x");
    await expect(pack(["."])).rejects.toMatchObject({
      code: "invalid",
      message: expect.stringContaining("UTF-8"),
    });
  });

  it("is bounded in files and bytes, naming what to leave out, holes counted as bytes", async () => {
    write(Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`many/f${i}`, "x"])));
    await expect(pack(["."], { maxFiles: 50 })).rejects.toMatchObject({ code: "limit" });
    write({ "small.txt": "x", "huge.bin": "" });
    truncateSync(join(dir, "huge.bin"), 2 ** 40);
    await expect(pack(["."])).rejects.toMatchObject({
      code: "limit",
      details: { remedy: expect.stringContaining('"huge.bin"') },
    });
  });

  it("ends when it is cancelled", async () => {
    write({ f: "1" });
    await expect(pack(["."], { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: "cancelled" });
    const controller = new AbortController();
    const { stream } = await pack(["."], { signal: controller.signal });
    controller.abort();
    await expect(gather(stream)).rejects.toMatchObject({ code: "cancelled" });
  });
});

describe("a directory that changes after it was looked at", () => {
  const changes: [string, () => void][] = [
    [
      "a file that became a link out",
      () => {
        rmSync(join(dir, "sub/file"));
        symlinkSync(join(base, "secret/file"), join(dir, "sub/file"));
      },
    ],
    [
      "a directory that became a link out",
      () => {
        renameSync(join(dir, "sub"), join(base, "moved"));
        symlinkSync(join(base, "secret"), join(dir, "sub"));
      },
    ],
    [
      "a file that became a pipe",
      () => {
        rmSync(join(dir, "sub/file"));
        execFileSync("mkfifo", [join(dir, "sub/file")]);
      },
    ],
    ["a file that is gone", () => rmSync(join(dir, "sub/file"))],
    ["a file that grew beyond the limit", () => truncateSync(join(dir, "sub/file"), 2 ** 40)],
  ];

  it.each(changes)("never gives what it should not: %s", async (_, change) => {
    mkdirSync(join(base, "secret"));
    writeFileSync(join(base, "secret/file"), "TOP SECRET");
    write({ "sub/file": "harmless" });
    const { stream } = await pack(["."]);
    change();
    let given = "";
    const reading = (async () => {
      for await (const chunk of stream) given += Buffer.from(chunk).toString("latin1");
    })();
    await expect(reading).rejects.toMatchObject({
      code: "conflict",
      details: { remedy: expect.any(String) },
    });
    expect(given).not.toContain("SECRET");
  });

  it("gives a file as long as it was when it was opened, though it grows", async () => {
    write({ "a.log": "x".repeat(300_000) });
    const { stream } = await pack(["."]);
    const parts: Uint8Array[] = [];
    for await (const chunk of stream) {
      parts.push(chunk);
      appendFileSync(join(dir, "a.log"), "more");
    }
    const out = join(base, "out");
    mkdirSync(out);
    async function* again(): AsyncIterable<Uint8Array> {
      yield* parts;
    }
    await unpackContext(again(), out, { maxBytes: 1_000_000, maxFiles: 10 });
    expect((await readFile(join(out, "a.log"), "utf8")).replace(/^x{300000}/, "")).toMatch(/^(more)*$/);
  });

  it("ends in a conflict if a file shrinks while it is read", async () => {
    write({ "a.bin": "x".repeat(900_000) });
    const { stream } = await pack(["."]);
    const reading = (async () => {
      for await (const _ of stream) truncateSync(join(dir, "a.bin"), 100);
    })();
    await expect(reading).rejects.toMatchObject({ code: "conflict" });
  });

  it("leaves no file open when the archive is not read to its end", async () => {
    write({ "a.bin": "x".repeat(900_000) });
    const open = async () => (await readdir("/proc/self/fd")).length;
    const before = await open();
    for (let i = 0; i < 20; i++) {
      const { stream } = await pack(["."]);
      for await (const _ of stream) break;
    }
    expect(await open()).toBeLessThanOrEqual(before + 2);
  });
});
