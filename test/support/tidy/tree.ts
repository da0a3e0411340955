// The repository as tidy reads it: its text files and its packages. Nothing here decides what is right.

import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { type ImportedModule, importsOf, layersOf } from "./lexer.ts";

export const ROOT = resolve(import.meta.dirname, "../../..");

export interface SourceFile {
  /** From the repository's root, with `/`. */
  path: string;
  text: string;
  /** The package it belongs to, `packages/x` or `apps/x`; empty outside. */
  pkg: string;
  /** Where in its package (or in the repository) it lies: `src`, `testing`, `test`, or empty. */
  part: string;
  /** For TypeScript: its code without texts and comments, its comments alone, and what it imports. */
  code: string;
  comments: string;
  imports: ImportedModule[];
}

export interface Tree {
  files: readonly SourceFile[];
  /** The packages that exist. */
  packages: readonly string[];
}

const SKIPPED = new Set(["node_modules", "dist", ".git", ".turbo", "coverage", "tmp"]);
const TEXT = /(?:\.(?:ts|json|md|ya?ml|sh|txt)|\/LICENSE|\/\.gitignore|\/\.ci\/run)$/;
const GENERATED = /^pnpm-lock\.yaml$/;

/** Reads the repository. */
export function readTree(root = ROOT): Tree {
  const files = [...walk(root, "")].map((path) => sourceFile(path, readFileSync(join(root, path), "utf8")));
  const packages = ["packages", "apps"].flatMap((kind) =>
    readdirSync(join(root, kind), { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && existsSync(join(root, kind, entry.name, "package.json")))
      .map((entry) => `${kind}/${entry.name}`),
  );
  return { files, packages };
}

/** One file, as the rules see it. */
export function sourceFile(path: string, text: string): SourceFile {
  const [, pkg = "", inPackage] = /^((?:packages|apps)\/[^/]+)\/(.*)$/.exec(path) ?? [];
  const part = /^(src|testing|test)\//.exec(inPackage ?? path)?.[1] ?? "";
  const { code, comments } = path.endsWith(".ts") ? layersOf(text) : { code: "", comments: "" };
  return { path, text, pkg, part, code, comments, imports: code === "" ? [] : importsOf(text, code) };
}

function* walk(root: string, directory: string): Generator<string> {
  for (const entry of readdirSync(join(root, directory), { withFileTypes: true })) {
    const path = directory === "" ? entry.name : `${directory}/${entry.name}`;
    if (entry.isDirectory()) {
      if (!SKIPPED.has(entry.name) && !entry.name.startsWith(".readme-")) yield* walk(root, path);
    } else if (entry.isFile() && TEXT.test(`/${path}`) && !GENERATED.test(path)) yield path;
  }
}
