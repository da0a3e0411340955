// Contexts from files in a call: packed by the rules of directories, except that the caller named every file.

import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { packDirectory, packFiles } from "@formation-mcp/artifacts/context";
import { gather, namesIn } from "@formation-mcp/artifacts/testing/raw-tar";
import { describe, expect, it } from "vitest";

describe("packing files in memory", () => {
  const file = (text: string, executable = false) => ({ content: Buffer.from(text), executable });

  it("takes what include names, secrets too: the caller named them", async () => {
    const files = {
      "src/a.py": file("1"),
      "./src/.env": file("2"),
      "run.sh": file("3", true),
      other: file("4"),
    };
    expect(namesIn(await gather(packFiles(files, ["src", "run.sh"])))).toEqual([
      "run.sh",
      "src/",
      "src/.env",
      "src/a.py",
    ]);
    expect(namesIn(await gather(packFiles(files, ["."])))).toHaveLength(5);
    expect(namesIn(await gather(packFiles({}, ["."])))).toEqual([]);
  });

  it("refuses paths that are none, at once, naming the file", () => {
    for (const name of ["/abs", "../up", "a/../b", "a//b", "", "a/", "a\0", "a\nb", "."]) {
      expect(() => packFiles({ [name]: file("x") }, ["."])).toThrow(
        expect.objectContaining({
          code: "invalid",
          details: expect.objectContaining({ field: expect.any(String) }),
        }),
      );
    }
    expect(() => packFiles({ a: file("x"), "a/b": file("y") }, ["."])).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
    expect(() => packFiles({ a: file("x"), "./a": file("y") }, ["."])).toThrow(
      expect.objectContaining({ code: "invalid" }),
    );
  });

  it("says which include path names nothing, and what may have been meant", () => {
    expect(() => packFiles({ "src/main.py": file("x") }, ["src", "main.py"])).toThrow(
      expect.objectContaining({
        code: "invalid",
        details: { field: "include[1]", remedy: expect.stringContaining('"src/main.py"') },
      }),
    );
  });

  it("gives what a directory with the same files gives", async () => {
    const dir = await mkdtemp(join(tmpdir(), "pack-files-"));
    try {
      mkdirSync(join(dir, "a"));
      writeFileSync(join(dir, "a/b.txt"), "b");
      writeFileSync(join(dir, "c"), "c");
      const limits = { maxBytes: 1_000_000, maxFiles: 1000 };
      const { stream } = await packDirectory({ dir, include: ["."], allow: [dir], ...limits });
      const fromMemory = await gather(packFiles({ c: file("c"), "a/b.txt": file("b") }, ["."]));
      expect((await gather(stream)).equals(fromMemory)).toBe(true);
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
