// The rules about who may import what: layers, homes of dependencies, front doors, the environment.

import { builtinModules } from "node:module";
import { posix } from "node:path";
import { ENVIRONMENT_READER, HOMES, LAYERS, levelOf, TEST_LIBRARIES } from "./layers.ts";
import { lineAt } from "./lexer.ts";
import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

/**
 * Imports go strictly downward; packages of one layer never meet, but in tests, where the real one beats a
 * stand-in.
 */
export function layers({ files, packages }: Tree): Offence[] {
  const homeless = packages
    .filter((pkg) => levelOf(pkg) === undefined)
    .map((pkg) => ({
      path: `${pkg}/package.json`,
      line: 0,
      advice: "This package has no layer: give it one in test/support/tidy/layers.ts and in ARCHITECTURE.md.",
    }));
  const upward = eachImport(files, ({ pkg, part }, name) =>
    upwardFrom(pkg, packageDirOf(name), part.startsWith("test")),
  );
  const declared = files
    .filter((file) => file.pkg !== "" && file.path === `${file.pkg}/package.json`)
    .flatMap(({ path, pkg, text }) => {
      let forTests = false;
      return text.split("\n").flatMap((line, index) => {
        const section = /^ {2}"(\w+)": \{$/.exec(line)?.[1];
        if (section !== undefined) forTests = section === "devDependencies";
        const target = packageDirOf(/^\s*"(@formation-mcp\/[\w-]+)": "workspace/.exec(line)?.[1] ?? "");
        const advice = upwardFrom(pkg, target, forTests);
        return advice === undefined ? [] : [{ path, line: index + 1, advice }];
      });
    });
  return [...homeless, ...upward, ...declared];
}

/** What is wrong with an arrow from one package to another, if anything is. */
function upwardFrom(pkg: string, target: string | undefined, inTests: boolean): string | undefined {
  const from = levelOf(pkg);
  const to = target === undefined ? undefined : levelOf(target);
  if (target === pkg || from === undefined || to === undefined || to < from) return undefined;
  if (inTests && to === from) return undefined;
  const relation = to === from ? "is on the same layer," : "is on a higher layer,";
  return `${target} ${relation} ${LAYERS[to]?.layer}: take what you need from a lower layer, or let the caller pass it in.`;
}

/** Every dependency has one home, and is declared there. */
export function homes({ files }: Tree): Offence[] {
  const declared = new Map(
    files
      .filter((file) => file.path === `${file.pkg}/package.json` && file.pkg !== "")
      .map((file) => [file.pkg, JSON.parse(file.text) as Record<string, Record<string, string> | undefined>]),
  );
  return eachImport(files, (file, name) => {
    const dependency = name === "node:sqlite" ? name : packageOf(name);
    if (!file.pkg || file.part !== "src" || isRelative(name)) return undefined;
    if (isBuiltin(name) && name !== "node:sqlite") return undefined;
    const manifest = declared.get(file.pkg);
    const known = { ...manifest?.["dependencies"], ...manifest?.["devDependencies"] };
    const own = dependency.startsWith("@formation-mcp/");
    if (TEST_LIBRARIES.includes(dependency)) return `${dependency} is for test/ and testing/ only.`;
    if (!own && !HOMES[dependency]?.includes(file.pkg)) {
      const home = HOMES[dependency]?.join(", ") ?? "nowhere yet: give it one in test/support/tidy/layers.ts";
      return `${dependency} lives in ${home}: use that package's port instead.`;
    }
    const isOwnName = own && dependency === `@formation-mcp/${posix.basename(file.pkg)}`;
    if (!isBuiltin(name) && !isOwnName && !(dependency in known)) {
      return `${dependency} is not in ${file.pkg}/package.json: declare it.`;
    }
    return undefined;
  });
}

/**
 * A package is entered by its door: no path leads into it from outside. Its own tests may import its sources
 * by path; its sources import neither its tests nor any `testing/` folder, because those are not published.
 */
export function doors({ files }: Tree): Offence[] {
  return eachImport(files, (file, name) => {
    if (/\.config\.ts$/.test(file.path)) return undefined;
    const isSource = file.part === "src" && file.pkg !== "";
    if (isSource && TESTING_DOOR.test(name))
      return "Sources import nothing from testing/: it is not published.";
    if (!isRelative(name)) return undefined;
    const target = posix.normalize(posix.join(posix.dirname(file.path), name));
    const pkg = /^(?:packages|apps)\/[^/]+/.exec(target)?.[0] ?? "";
    if (pkg !== file.pkg) {
      return pkg === ""
        ? "A package does not reach out of its directory."
        : `Import ${pkg} by its name, not by a path.`;
    }
    const leaves = isSource && !target.startsWith(`${pkg}/src/`) && target !== `${pkg}/package.json`;
    return leaves ? "Sources import only from src/: the rest of the package is not published." : undefined;
  });
}

/** A door that leads into the folder `testing/` of a package. */
const TESTING_DOOR = /^@formation-mcp\/[\w-]+\/testing\//;

/** Only assembly reads the environment: what a package needs, its constructor gets. */
export function environment({ files }: Tree): Offence[] {
  const readers = files.filter(({ part, pkg }) => part === "src" && pkg !== "" && pkg !== ENVIRONMENT_READER);
  const read = readers.flatMap(({ path, code }) => {
    const hidden = scopesOf(code, HIDES_PROCESS);
    return [...code.matchAll(READS_ENVIRONMENT)]
      .filter(({ index }) => !hidden.some(([start, end]) => start < index && index < end))
      .map(({ index }) => ({
        path,
        line: lineAt(code, index),
        advice: `Only ${ENVIRONMENT_READER} reads process.env: take the value as an option.`,
      }));
  });
  const imported = eachImport(readers, (_, name) =>
    /^(?:node:)?process$/.test(name) ? "Use the global `process`, so that this rule sees it." : undefined,
  );
  return [...read, ...imported];
}

/** A spread's three dots are no member access. */
const READS_ENVIRONMENT = /(?<![\w$]|(?<!\.\.)\.)process\s*\??\.\s*env\b|\bglobalThis\s*\.\s*process\b/g;
/** A variable or a parameter named as the global: the contract's records have a field of that name. */
const HIDES_PROCESS = /\b(?:const|let)\s+(?:process\b|\{[^}]*\bprocess\b[^}]*\})|[(,]\s*process\s*\??\s*:/g;

/** From where to where the names that a pattern declares are known: to the end of the block around them. */
function scopesOf(code: string, pattern: RegExp): [start: number, end: number][] {
  return [...code.matchAll(pattern)].map(({ index }) => {
    let depth = 0;
    for (let at = index; at < code.length; at++) {
      if (code[at] === "{") depth++;
      else if (code[at] === "}" && --depth < 0) return [index, at];
    }
    return [index, code.length];
  });
}

function eachImport(
  files: readonly SourceFile[],
  judge: (file: SourceFile, name: string) => string | undefined,
): Offence[] {
  return files.flatMap((file) =>
    file.imports.flatMap(({ name, line }) => {
      const advice = judge(file, name);
      return advice === undefined ? [] : [{ path: file.path, line, advice }];
    }),
  );
}

/** The pkg that a module's name leads to, if it is one of ours. */
function packageDirOf(name: string): string | undefined {
  if (packageOf(name) === "formation-mcp") return "apps/stdio";
  return name.startsWith("@formation-mcp/") ? `packages/${name.split("/")[1]}` : undefined;
}

function packageOf(name: string): string {
  return name
    .split("/")
    .slice(0, name.startsWith("@") ? 2 : 1)
    .join("/");
}

function isRelative(name: string): boolean {
  return name.startsWith(".");
}

function isBuiltin(name: string): boolean {
  return name.startsWith("node:") || builtinModules.includes(name);
}
