import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, resolve } from "node:path";
import { expect, it } from "vitest";

const SOURCE = resolve(import.meta.dirname, "../src");

/** Every import of a module and, through relative ones, of all it needs. */
function importsOf(file: string, seen = new Map<string, string>()): Map<string, string> {
  const text = readFileSync(file, "utf8");
  for (const [, from = ""] of text.matchAll(/(?:from|import)\s*\(?\s*["']([^"']+)["']/g)) {
    if (seen.has(from)) continue;
    seen.set(from, text);
    if (from.startsWith(".")) importsOf(resolve(dirname(file), from), seen);
  }
  return seen;
}

it("./keys imports the curves, the hashes and the error class, and nothing of Node", () => {
  const outside = [...importsOf(resolve(SOURCE, "keys.ts")).keys()].filter((name) => !name.startsWith("."));
  expect(outside.length).toBeGreaterThan(0);
  for (const name of outside) {
    expect(name).toMatch(/^(@noble\/(curves|hashes)\/[\w.-]+|@formation-mcp\/contract)$/);
    expect(builtinModules).not.toContain(name);
  }
});

it("./keys names no global that only Node has", () => {
  for (const text of importsOf(resolve(SOURCE, "keys.ts")).values()) {
    expect(text).not.toMatch(/\b(Buffer|process|require|__dirname|globalThis\.process)\b/);
  }
});
