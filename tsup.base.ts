import { basename } from "node:path";
import type { Options } from "tsup";
import { intoOneFile, type Transform } from "./scripts/one-file.ts";

const common: Options = {
  format: "esm",
  platform: "node",
  target: "node22",
  clean: true,
  dts: false,
  removeNodeProtocol: false,
  silent: true,
};

/**
 * A package for npm: unbundled dependencies, one file per entry. The code is not minified and can be read as
 * it is, so there are no source maps: they would ship every source a second time.
 */
export function library(entry: string[]): Options {
  return { ...common, entry, splitting: true };
}

/**
 * Node's own modules load when what imports them runs: an import at the top of a bundle loads all of them at
 * the start, also those that only a subcommand or the first call needs.
 */
const lazyBuiltins: NonNullable<Options["esbuildPlugins"]>[number] = {
  name: "lazy-builtins",
  setup(build) {
    build.onResolve({ filter: /^node:/ }, ({ path, kind }) =>
      kind === "import-statement" || kind === "dynamic-import" ? { path, namespace: "builtin" } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: "builtin" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule(${JSON.stringify(path)});`,
      loader: "js",
    }));
  },
};

/** What a program begins with: its words for a Node that is too old for its first line. */
const start = (node: string) =>
  [
    "#!/usr/bin/env node",
    'import { createRequire as __createRequire } from "node:module"; const require = __createRequire(import.meta.url);',
    `if (!process.getBuiltinModule) { console.error('Node ${node} or later is needed; this is ' + process.version + '.'); process.exit(1); }`,
  ].join("\n");

/** A program: everything in one minified .mjs that runs anywhere Node runs. */
export function application(entry: Record<string, string>): Options {
  return {
    ...common,
    entry,
    noExternal: [/.*/],
    splitting: false,
    minify: true,
    esbuildPlugins: [lazyBuiltins],
    // Straight from the workspace's sources, so that a bundle is never older than they are.
    esbuildOptions(options) {
      options.conditions = ["formation-source"];
    },
    outExtension: () => ({ js: ".mjs" }),
    banner: { js: start("22.18") },
  };
}

/**
 * A program that starts fast: what it imports dynamically stays text in its one file until then. No top-level
 * await. It runs on Node 20 as well, as far as what it does there needs no more.
 */
export function fastApplication(entry: Record<string, string>): Options {
  const { banner: _, ...options } = application(entry);
  let pack = async () => {};
  const packing: typeof lazyBuiltins = {
    name: "one-file",
    setup({ esbuild, initialOptions, onEnd }) {
      onEnd(({ metafile }) => {
        const outDir = initialOptions.outdir ?? "dist";
        const files = Object.keys(metafile?.outputs ?? {}).map((path) => basename(path));
        const transform = esbuild.transform as Transform;
        pack = () =>
          intoOneFile({ outDir, files, names: Object.keys(entry), start: start("20.19"), transform });
      });
    },
  };
  return {
    ...options,
    target: "node20",
    splitting: true,
    esbuildPlugins: [lazyBuiltins, packing],
    onSuccess: () => pack(),
  };
}
