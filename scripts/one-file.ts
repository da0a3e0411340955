// A program's chunks as one file. What the start needs is code there; what only a subcommand or a first call
// needs is text, because V8 reads code at every start, all of it, and text costs next to nothing until it is
// asked for.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** esbuild's `transform`, as far as it is used here. */
export type Transform = (
  code: string,
  options: Record<string, unknown>,
) => Promise<{ code: string; warnings: { text: string }[] }>;

/** Runs a chunk at its first use. Chunks call each other by name; any other name is Node's. */
const LOADER = `const loaded = {};
const load = (name) => {
  if (loaded[name]) return loaded[name].exports;
  let run = chunks[name];
  if (run === undefined) return require(name);
  if (typeof run === "string") run = process.getBuiltinModule("node:vm").compileFunction(run,
    ["module", "exports", "require", "__url"], { filename: import.meta.url + "#" + name });
  const module = loaded[name] = { exports: {} };
  run(module, module.exports, load, import.meta.url);
  return module.exports;
};
`;

const STATIC = /\b(?:from|import)\s*"(\.\/[^"]+\.mjs)"/g;
const DYNAMIC = /\bimport\("(\.\/[^"]+\.mjs)"\)/g;

interface Packing {
  outDir: string;
  /** Everything that the bundler wrote there. */
  files: readonly string[];
  /** The entries, without `.mjs`. */
  names: readonly string[];
  /** What a program begins with; it has a `require`. */
  start: string;
  transform: Transform;
}

/** Makes each entry one file with every chunk that it imports; the chunks' own files go. */
export async function intoOneFile({ outDir, files, names, start, transform }: Packing): Promise<void> {
  const chunks = files.filter((file) => file.endsWith(".mjs"));
  const texts = new Map(chunks.map((file) => [`./${file}`, readFileSync(join(outDir, file), "utf8")]));
  const entries = names.map((name) => `./${name}.mjs`);
  const made = await Promise.all(entries.map((entry) => packed(entry, texts, transform)));
  for (const file of chunks) rmSync(join(outDir, file));
  for (const [i, entry] of entries.entries()) {
    writeFileSync(join(outDir, entry), `${start}\n${made[i]}`, { mode: 0o755 });
  }
}

async function packed(
  entry: string,
  texts: ReadonlyMap<string, string>,
  transform: Transform,
): Promise<string> {
  const textOf = (id: string) => {
    const text = texts.get(id);
    if (text === undefined) throw new Error(`There is no chunk ${id}.`);
    return text;
  };
  const started = closure([entry], (id) => imports(textOf(id), STATIC));
  const all = closure([entry], (id) => [...imports(textOf(id), STATIC), ...imports(textOf(id), DYNAMIC)]);
  if (all.size === 1) return textOf(entry);
  const chunks: string[] = [];
  for (const id of all) {
    const { code, warnings } = await transform(textOf(id), {
      format: "cjs",
      platform: "node",
      target: "node20",
      minify: true,
      charset: "ascii",
      supported: { "dynamic-import": false },
      define: { "import.meta.url": "__url" },
    });
    if (warnings.length > 0) throw new Error(`${id}: ${warnings.map(({ text }) => text).join("; ")}`);
    // In parentheses a function is compiled at once, not looked through first.
    const body = `"use strict";${code}`;
    const run = started.has(id) ? `(function(module,exports,require,__url){${body}})` : JSON.stringify(body);
    chunks.push(`${JSON.stringify(id)}:${run}`);
  }
  return `${LOADER}const chunks={\n${chunks.join(",\n")}};\nload(${JSON.stringify(entry)});\n`;
}

function imports(text: string, pattern: RegExp): string[] {
  return [...text.matchAll(pattern)].map(([, id = ""]) => id);
}

function closure(roots: readonly string[], next: (id: string) => string[]): Set<string> {
  const found = new Set<string>();
  const add = (id: string) => {
    if (found.has(id)) return;
    found.add(id);
    next(id).forEach(add);
  };
  roots.forEach(add);
  return found;
}
