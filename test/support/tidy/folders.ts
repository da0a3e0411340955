// The rules about the folders of a package: how many files one holds, what it says of itself, and which way
// its imports go.

import { posix } from "node:path";
import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

const MAX_FILES = 25;

/** An import of one file of a package by another. */
interface Arrow {
  from: SourceFile;
  to: string;
  line: number;
}

const isSource = ({ path, pkg, part }: SourceFile) => pkg !== "" && part === "src" && path.endsWith(".ts");

/** No folder under `src` holds more than 25 files directly. */
export function crowdedFolders({ files }: Tree): Offence[] {
  return [...byFolder(files)]
    .filter(([, inside]) => inside.length > MAX_FILES)
    .map(([path, inside]) => ({
      path,
      line: 0,
      advice: `${inside.length} files, ${MAX_FILES} at most: group those that share a concern in a folder.`,
    }));
}

/** The alphabetically first file of each folder below `src` says what the folder knows. */
export function folderOpenings({ files }: Tree): Offence[] {
  return [...byFolder(files)]
    .filter(([folder]) => !folder.endsWith("/src"))
    .map(([, inside]) => inside.toSorted((a, b) => (a.path < b.path ? -1 : 1))[0] as SourceFile)
    .filter(({ text }) => !/(?:^|[.:!?] )This folder\b/.test(openingOf(text)))
    .map(({ path }) => ({
      path,
      line: 1,
      advice:
        'Say in the opening comment what the folder knows, in a sentence that begins with "This folder".',
    }));
}

/** Folders beside each other import in one direction only. Type imports count. */
export function twoWayFolders({ files }: Tree): Offence[] {
  const arrows = new Map<string, Arrow[]>();
  for (const arrow of arrowsWithin(files.filter(isSource))) {
    const pair = foldersBetween(arrow.from.path, arrow.to);
    if (pair) push(arrows, pair.join(" → "), arrow);
  }
  return [...arrows].flatMap(([key, found]) => {
    const [from = "", to = ""] = key.split(" → ");
    const back = arrows.get(`${to} → ${from}`) ?? [];
    // Only the direction with fewer imports is told: those are the ones to turn round.
    if (back.length === 0 || found.length > back.length || (found.length === back.length && from > to))
      return [];
    return found.map(({ from: file, line, to: target }) => ({
      path: file.path,
      line,
      advice: `${posix.basename(from)}/ imports ${target}, and ${back.length} imports go from ${posix.basename(to)}/ to ${posix.basename(from)}/: let one folder import the other, not both.`,
    }));
  });
}

/** No file of a package imports itself through others. Type imports count. */
export function circles({ files }: Tree): Offence[] {
  const arrows = new Map<string, Arrow[]>();
  for (const arrow of arrowsWithin(files)) push(arrows, arrow.from.path, arrow);
  return [...arrows].flatMap(([path, own]) => {
    const round = shortestWayBack(path, arrows);
    // Each circle is told once, at its alphabetically first file.
    if (round === undefined || round.some((step) => step < path)) return [];
    const line = own.find(({ to }) => to === round[0])?.line ?? 1;
    const way = [path, ...round].map((step) => posix.basename(step)).join(" → ");
    return [
      { path, line, advice: `A circle of imports, ${way}: move what they share into a file of its own.` },
    ];
  });
}

/** The files after `start` on the shortest circle through it, `start` last. */
function shortestWayBack(start: string, arrows: Map<string, Arrow[]>): string[] | undefined {
  const before = new Map<string, string>();
  const queue = [start];
  for (let path = queue.shift(); path !== undefined; path = queue.shift()) {
    for (const { to } of arrows.get(path) ?? []) {
      if (before.has(to)) continue;
      before.set(to, path);
      queue.push(to);
    }
  }
  if (!before.has(start)) return undefined;
  const round = [start];
  for (let at = before.get(start); at !== undefined && at !== start; at = before.get(at)) round.unshift(at);
  return round;
}

/** The relative imports between files of one package. */
function arrowsWithin(files: readonly SourceFile[]): Arrow[] {
  const known = new Map(files.map((file) => [file.path, file.pkg]));
  return files.flatMap((from) =>
    from.imports
      .filter(({ name }) => name.startsWith("."))
      .map(({ name, line }) => ({ from, line, to: posix.join(posix.dirname(from.path), name) }))
      .filter(({ to }) => from.pkg !== "" && known.get(to) === from.pkg),
  );
}

/**
 * The two folders, side by side in a third, that an import leads from and to; undefined if there are none.
 */
function foldersBetween(from: string, to: string): [string, string] | undefined {
  const [a, b] = [from.split("/"), to.split("/")];
  const fork = a.findIndex((step, index) => step !== b[index]);
  const sideBySide = fork >= 0 && fork < a.length - 1 && fork < b.length - 1;
  return sideBySide ? [a.slice(0, fork + 1).join("/"), b.slice(0, fork + 1).join("/")] : undefined;
}

function byFolder(files: readonly SourceFile[]): Map<string, SourceFile[]> {
  const folders = new Map<string, SourceFile[]>();
  for (const file of files.filter(isSource)) push(folders, posix.dirname(file.path), file);
  return folders;
}

/** The comment that a file opens with, as one line of text. */
function openingOf(text: string): string {
  const lines = /^(?:#!.*\n)?\s*((?:\/\/.*(?:\n|$))+|\/\*[\s\S]*?\*\/)/.exec(text)?.[1] ?? "";
  return lines
    .replace(/^\s*(?:\/\/|\/?\*+\/?) ?|\s*\*\/$/gm, "")
    .replace(/\s+/g, " ")
    .trim();
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list) list.push(value);
  else map.set(key, [value]);
}
