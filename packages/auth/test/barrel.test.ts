import { readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, resolve } from "node:path";
import { expect, it } from "vitest";

/** The modules of this package that a module needs, itself first, and the names of all others they import. */
function closureOf(entry: string): { texts: string[]; outside: Set<string> } {
  const files = new Set([entry]);
  const texts: string[] = [];
  const outside = new Set<string>();
  for (const file of files) {
    const text = readFileSync(file, "utf8");
    texts.push(text);
    for (const [, name = ""] of text.matchAll(/(?:from|import)\s*\(?\s*["']([^"']+)["']/g)) {
      if (name.startsWith(".")) files.add(resolve(dirname(file), name));
      else outside.add(name);
    }
  }
  return { texts, outside };
}

const KEYS = closureOf(resolve(import.meta.dirname, "../src/keys.ts"));

it("./keys imports the curves, the hashes and the error class, and nothing of Node", () => {
  expect(KEYS.texts.length).toBeGreaterThan(4);
  for (const name of KEYS.outside) {
    expect(name).toMatch(/^(@noble\/(curves|hashes)\/[\w.-]+|@formation-mcp\/contract)$/);
    expect(builtinModules).not.toContain(name);
  }
});

it("./keys names no global that only Node has", () => {
  for (const text of KEYS.texts)
    expect(text).not.toMatch(/\b(Buffer|process|require|__dirname|setImmediate)\b/);
});

it("./key-file runs where there is no SQLite: on a laptop's Node 20 as well", () => {
  const { outside } = closureOf(resolve(import.meta.dirname, "../src/key-file.ts"));
  for (const name of outside) {
    expect(name).toMatch(/^(node:(crypto|fs|fs\/promises|path)|zod|@noble\/.+|@formation-mcp\/contract)$/);
  }
});

it("./authority knows the store as documents alone", () => {
  const { outside } = closureOf(resolve(import.meta.dirname, "../src/authority.ts"));
  for (const name of outside) {
    expect(name).toMatch(/^(node:crypto|jose|zod|@noble\/.+|@formation-mcp\/(base|contract))$/);
  }
});
