import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { readFileIfPresent, removeTemporaryFiles, syncDirectory, writeFileAtomic } from "@formation-mcp/os";
import { expect, it } from "vitest";
import { child, ended, scratch } from "./support.ts";

it("a written file holds exactly what was written, and nothing lies beside it", () => {
  const directory = scratch();
  const path = join(directory, "file");
  for (const content of ["", "text ä", Uint8Array.of(0, 255, 10)]) {
    writeFileAtomic(path, content);
    expect(readFileSync(path)).toEqual(Buffer.from(content));
  }
  expect(readdirSync(directory)).toEqual(["file"]);
});

it("has the permissions asked for, whatever the umask", () => {
  const directory = scratch();
  const before = process.umask(0o077);
  try {
    writeFileAtomic(join(directory, "open"), "", 0o644);
    writeFileAtomic(join(directory, "closed"), "");
  } finally {
    process.umask(before);
  }
  expect(statSync(join(directory, "open")).mode & 0o777).toBe(0o644);
  expect(statSync(join(directory, "closed")).mode & 0o777).toBe(0o600);
});

it("a kill -9 during a write leaves the old content or the new, and a removable temporary file", async () => {
  const directory = scratch();
  const path = join(directory, "file");
  const valid = new Set(["old", "a".repeat(300_000), "b".repeat(300_000)]);
  let alive = 0;
  for (let round = 0; round < 8; round++) {
    writeFileAtomic(path, "old");
    const writer = await child("writer", path);
    // How far it gets differs from round to round: that is the point.
    for (let looks = 0; looks <= round * 40; looks++)
      expect(valid.has(readFileSync(path, "utf8"))).toBe(true);
    alive += removeTemporaryFiles(directory);
    writer.process.kill("SIGKILL");
    await ended(writer.process);
    expect(valid.has(readFileSync(path, "utf8"))).toBe(true);
    removeTemporaryFiles(directory);
    expect(readdirSync(directory)).toEqual(["file"]);
  }
  expect(alive).toBe(0);
}, 60_000);

it("only what writing left behind is removed", () => {
  const directory = scratch();
  const kept = ["notes.tmp", "file.12-zz.tmp", `file.${process.ppid}-0123456789ab.tmp`];
  for (const name of [...kept, "file.999999999-0123456789ab.tmp"]) writeFileSync(join(directory, name), "");
  expect(removeTemporaryFiles(directory)).toBe(1);
  expect(readdirSync(directory).sort()).toEqual(kept.sort());
  expect(removeTemporaryFiles(join(directory, "missing"))).toBe(0);
});

it("a file that cannot be written is `unavailable`, and the old one stays", () => {
  const directory = scratch();
  const blocked = join(directory, "blocked");
  mkdirSync(blocked);
  writeFileSync(join(blocked, "inner"), "");
  for (const path of [blocked, join(directory, "missing", "file"), join(directory, "x".repeat(300))]) {
    expect(() => writeFileAtomic(path, "new")).toThrow(
      expect.objectContaining({ code: "unavailable", details: { remedy: expect.any(String) } }),
    );
  }
  expect(readdirSync(directory)).toEqual(["blocked"]);
});

it("an absent file reads as null, and one that cannot be read is an error", () => {
  const directory = scratch();
  expect(readFileIfPresent(join(directory, "none"))).toBeNull();
  expect(() => readFileIfPresent(directory)).toThrow(FormationError);
  expect(() => syncDirectory(join(directory, "none"))).toThrow(FormationError);
  writeFileSync(join(directory, "some"), "text");
  chmodSync(join(directory, "some"), 0o600);
  expect(readFileIfPresent(join(directory, "some"))).toBe("text");
});
