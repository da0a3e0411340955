// The rules about what a package says of itself: its package.json, its README's length, its row in
// ARCHITECTURE.md.

import { LAYERS, levelOf, TEST_LIBRARIES } from "./layers.ts";
import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

const README_LINES = 80;
const NODE = ">=22.18";
/** The program that also serves a remote server's tools, for which an older Node will do. */
const REMOTE = "apps/stdio";
const NODE_REMOTE = ">=20.19";

type Entry = Record<string, string>;

interface Manifest {
  name?: string;
  version?: string;
  private?: boolean;
  description?: string;
  type?: string;
  license?: string;
  sideEffects?: boolean;
  files?: string[];
  bin?: Entry;
  exports?: Record<string, Entry | string>;
  publishConfig?: { access?: string; exports?: Record<string, Entry | string> };
  engines?: { node?: string };
  scripts?: Entry;
  dependencies?: Entry;
  devDependencies?: Entry;
  peerDependencies?: Entry;
}

/** Every package's package.json says the same things in the same way. */
export function manifests({ files, packages }: Tree): Offence[] {
  return packages.flatMap((pkg) => {
    const path = `${pkg}/package.json`;
    const text = files.find((file) => file.path === path)?.text ?? "{}";
    const manifest = JSON.parse(text) as Manifest;
    const wrong = [
      ...common(pkg, manifest),
      ...(pkg.startsWith("packages/") ? library(pkg, manifest, files) : program(manifest)),
    ];
    return wrong.map((advice) => ({ path, line: 0, advice }));
  });
}

function common(pkg: string, manifest: Manifest): string[] {
  const wrong: string[] = [];
  const say = (right: boolean, advice: string) => {
    if (!right) wrong.push(advice);
  };
  say(/^\S.*\.$/.test(manifest.description ?? ""), '"description" is one sentence with its full stop.');
  say(manifest.license === "Apache-2.0", '"license" is "Apache-2.0".');
  say(manifest.type === "module", '"type" is "module".');
  say(/^\d+\.\d+\.\d+/.test(manifest.version ?? ""), '"version" is there for changesets to raise.');
  const node = pkg === REMOTE ? NODE_REMOTE : NODE;
  say(manifest.engines?.node === node, `"engines.node" is "${node}".`);
  say(
    manifest.private === true || manifest.publishConfig?.access === "public",
    '"publishConfig.access" is "public".',
  );
  say("build" in (manifest.scripts ?? {}), 'There is a script "build".');
  const all = { ...manifest.dependencies, ...manifest.devDependencies, ...manifest.peerDependencies };
  for (const [name, range] of Object.entries(all)) {
    const right = name.startsWith("@formation-mcp/") ? range === "workspace:^" : range === "catalog:";
    say(
      right,
      `"${name}" is "${name.startsWith("@formation-mcp/") ? "workspace:^" : "catalog:"}", not "${range}".`,
    );
  }
  return wrong;
}

function program(manifest: Manifest): string[] {
  return [
    ...(JSON.stringify(manifest.files) === '["dist"]' ? [] : ['"files" is ["dist"].']),
    ...(Object.values(manifest.bin ?? {}).every((path) => path.startsWith("./dist/")) && manifest.bin
      ? []
      : ['"bin" names the bundles in ./dist/.']),
    ...(manifest.dependencies ? ['A program is bundled: everything is in "devDependencies".'] : []),
  ];
}

function library(pkg: string, manifest: Manifest, files: readonly SourceFile[]): string[] {
  const wrong: string[] = [];
  const say = (right: boolean, advice: string) => {
    if (!right) wrong.push(advice);
  };
  say(
    manifest.name === `@formation-mcp/${pkg.split("/")[1]}`,
    '"name" is the scope and the directory\'s name.',
  );
  for (const library of TEST_LIBRARIES) {
    const shipped = { ...manifest.dependencies, ...manifest.peerDependencies };
    say(!(library in shipped), `"${library}" is for tests: it goes into "devDependencies".`);
  }
  say(manifest.sideEffects === false, '"sideEffects" is false.');
  say(JSON.stringify(manifest.files) === '["dist"]', '"files" is ["dist"].');
  const config = files.find((file) => file.path === `${pkg}/tsup.config.ts`)?.text ?? "";
  const condition = sourceCondition(files);
  const published: Record<string, Entry | string> = {};
  for (const [subpath, entry] of Object.entries(manifest.exports ?? {})) {
    if (subpath === "./package.json") {
      published[subpath] = entry;
      say(entry === "./package.json", '"./package.json" exports itself.');
      continue;
    }
    if (subpath.startsWith("./testing/")) {
      const right = { [condition]: `${subpath}.ts` };
      say(
        JSON.stringify(entry) === JSON.stringify(right),
        `"exports" of "${subpath}" is ${JSON.stringify(right)}.`,
      );
      say(
        files.some((file) => file.path === `${pkg}/${subpath.slice(2)}.ts`),
        `${subpath.slice(2)}.ts is exported, so it is there.`,
      );
      continue;
    }
    const base = subpath === "." ? "index" : subpath.slice(2);
    const source = `./src/${base}.ts`;
    const right = { [condition]: source, types: `./dist/${base}.d.ts`, default: `./dist/${base}.js` };
    say(
      JSON.stringify(entry) === JSON.stringify(right),
      `"exports" of "${subpath}" is ${JSON.stringify(right)}.`,
    );
    say(
      files.some((file) => file.path === `${pkg}/src/${base}.ts`),
      `src/${base}.ts is exported, so it is there.`,
    );
    say(
      config.includes(`"src/${base}.ts"`),
      `tsup.config.ts builds "src/${base}.ts", which "${subpath}" exports.`,
    );
    published[subpath] = { types: right.types, default: right.default };
  }
  say(Object.keys(published).length > 1, '"exports" has at least one door.');
  say("./package.json" in published, '"exports" has "./package.json".');
  say(
    JSON.stringify(manifest.publishConfig?.exports) === JSON.stringify(published),
    '"publishConfig.exports" is "exports" without the sources and without testing/.',
  );
  return wrong;
}

/** The condition under which tsc, and so every program of ours, resolves a package to its sources. */
function sourceCondition(files: readonly SourceFile[]): string {
  const text = files.find((file) => file.path === "tsconfig.base.json")?.text ?? "{}";
  const { compilerOptions } = JSON.parse(text) as { compilerOptions?: { customConditions?: string[] } };
  return compilerOptions?.customConditions?.[0] ?? "formation-source";
}

/** Every package has a README of at most 80 lines with an example. */
export function readmes({ files, packages }: Tree): Offence[] {
  return packages.flatMap((pkg) => {
    const path = `${pkg}/README.md`;
    const text = files.find((file) => file.path === path)?.text;
    if (text === undefined) {
      const advice = "Write a README: what the package is for, an example, its errors, its dependencies.";
      return pkg.startsWith("packages/") ? [{ path, line: 0, advice }] : [];
    }
    const lines = text.trimEnd().split("\n").length;
    const wrong: Offence[] = [];
    if (lines > README_LINES) {
      wrong.push({ path, line: README_LINES + 1, advice: `${lines} lines, ${README_LINES} at most.` });
    }
    if (pkg.startsWith("packages/") && !/^```ts$/m.test(text)) {
      wrong.push({ path, line: 0, advice: "Show an example in a ```ts block." });
    }
    return wrong;
  });
}

/** ARCHITECTURE.md's table names exactly the packages that exist, on the layers that tidy enforces. */
export function architecture({ files, packages }: Tree): Offence[] {
  const path = "ARCHITECTURE.md";
  const text = files.find((file) => file.path === path)?.text ?? "";
  const rows = new Map<string, { layer: string; line: number }>();
  for (const [index, line] of text.split("\n").entries()) {
    const [, layer, pkg] = /^\|\s*(F\S+)\s*\|\s*`((?:packages|apps)\/[\w-]+)`/.exec(line) ?? [];
    if (layer && pkg) rows.set(pkg, { layer, line: index + 1 });
  }
  const missing = packages
    .filter((pkg) => !rows.has(pkg))
    .map((pkg) => ({ path, line: 0, advice: `The table of packages has no row for ${pkg}: write one.` }));
  const wrong = [...rows].flatMap(([pkg, { layer, line }]) => {
    if (!packages.includes(pkg)) return [{ path, line, advice: `There is no ${pkg}: remove its row.` }];
    const right = LAYERS[levelOf(pkg) ?? -1]?.layer;
    return right === layer ? [] : [{ path, line, advice: `${pkg} is on layer ${right}, not ${layer}.` }];
  });
  return [...missing, ...wrong];
}
