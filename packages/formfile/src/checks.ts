// The pieces that rules are made of: each looks at one value, reports what is wrong with it, and returns it
// when nothing is.

import { byteLength, child, codeName, forbiddenIn, show } from "./characters.ts";
import { KEYS, keyRemedy, type Level } from "./key-remedies.ts";
import { FORMFILE_LIMITS } from "./limits.ts";
import type { Report } from "./report.ts";
import { describe, type Entry, type Tree } from "./syntax-tree.ts";

export type Check<T> = (tree: Tree, path: string, report: Report) => T | undefined;

/** Reports a value of the wrong kind, unless its reader has done so. */
export function wrongKind(
  tree: Tree,
  path: string,
  report: Report,
  wanted: string,
  remedy: string,
): undefined {
  if (tree.kind !== "reported")
    report.add(tree.at, path, `${path || "The formfile"} must be ${wanted}, not ${describe(tree)}.`, remedy);
  return undefined;
}

/** Reports forbidden characters of a decoded text; line breaks and tabs pass where `allowed` names them. */
export function legible(
  text: string,
  allowed: string,
  place: { at: number; end: number },
  path: string,
  report: Report,
): boolean {
  const codes = new Set<number>();
  for (const { code } of forbiddenIn(text, allowed)) {
    codes.add(code);
    if (codes.size === 4) break;
  }
  const [first] = codes;
  if (first === undefined) return true;
  const raw = report.text?.slice(place.at, place.end).indexOf(String.fromCharCode(first)) ?? -1;
  const names = [...codes].map(codeName).join(", ");
  const spelling = first === 0x0d ? " Line breaks are \\n." : "";
  report.add(
    raw < 0 ? place.at : place.at + raw,
    path,
    `${path} holds ${names}, which must not stand here.`,
    `Remove the control characters, bidirectional overrides and broken surrogates.${spelling}`,
  );
  report.claim(place.at, place.end);
  return false;
}

export interface TextRule {
  /** Control characters that may stand in the text. */
  allowed?: string;
  /** Without: empty and blank texts are refused. */
  maybeEmpty?: boolean;
  maxBytes: number;
  /** How to write it, when it is no string at all. */
  remedy: string;
}

/** A string within a rule. */
export function text(rule: TextRule): Check<string> {
  return (tree, path, report) => {
    if (tree.kind !== "scalar" || typeof tree.value !== "string") {
      const colon =
        tree.kind === "map" ? ' YAML reads "a: b" as a mapping; a string that holds ": " needs quotes.' : "";
      return wrongKind(tree, path, report, "a string", rule.remedy + colon);
    }
    const { value } = tree;
    if (!rule.maybeEmpty && value.trim() === "") {
      report.add(tree.at, path, `${path} is ${value === "" ? "empty" : "blank"}.`, rule.remedy);
      return undefined;
    }
    if (!legible(value, rule.allowed ?? "", tree, path, report)) return undefined;
    const bytes = byteLength(value);
    if (bytes <= rule.maxBytes) return value;
    report.add(
      tree.at,
      path,
      `${path} has ${bytes} bytes; at most ${rule.maxBytes} fit.`,
      "Shorten it, or move it into a file named under include.",
    );
    return undefined;
  };
}

export interface ListRule<T> {
  item: Check<T>;
  most: number;
  /** A whole correct list, for those who wrote something else. */
  example: string;
  /** Whether equal items are refused. */
  unique?: boolean;
}

/** A list whose items pass a check. */
export function list<T extends string | number>(rule: ListRule<T>): Check<T[]> {
  return (tree, path, report) => {
    if (tree.kind !== "list")
      return wrongKind(tree, path, report, "a list", `Write a list: ${rule.example}.`);
    const values: T[] = [];
    const firstAt = new Map<T, number>();
    for (const [index, item] of tree.items.entries()) {
      if (index === rule.most) {
        report.add(
          item.at,
          path,
          `${path} has ${tree.items.length} items; at most ${rule.most} are allowed.`,
          "Remove the others.",
        );
        break;
      }
      const here = child(path, index);
      const value = rule.item(item, here, report);
      if (value === undefined) continue;
      const earlier = rule.unique ? firstAt.get(value) : undefined;
      if (earlier === undefined) {
        firstAt.set(value, index);
        values.push(value);
      } else report.add(item.at, here, `${here} repeats ${child(path, earlier)}.`, "Remove one of the two.");
    }
    return values;
  };
}

/** A whole number within bounds. */
export function integer(bounds: { min: number; max: number }, remedy: (tree: Tree) => string): Check<number> {
  return (tree, path, report) => {
    const range = `a whole number from ${bounds.min} to ${bounds.max}`;
    if (tree.kind !== "scalar" || typeof tree.value !== "number")
      return wrongKind(tree, path, report, range, remedy(tree));
    if (Number.isInteger(tree.value) && tree.value >= bounds.min && tree.value <= bounds.max)
      return tree.value;
    report.add(tree.at, path, `${path} is ${tree.value}; it must be ${range}.`, remedy(tree));
    return undefined;
  };
}

/** true or false. */
export const boolean: Check<boolean> = (tree, path, report) =>
  tree.kind === "scalar" && typeof tree.value === "boolean"
    ? tree.value
    : wrongKind(tree, path, report, "true or false", "Write true or false, without quotes.");

/** Entries of a mapping with different keys; what is repeated or reserved is reported. */
function* entriesOf(tree: Tree & { kind: "map" }, path: string, report: Report): Generator<Entry> {
  const seen = new Map<string, Entry>();
  for (const entry of tree.entries) {
    const here = child(path, entry.key);
    const earlier = seen.get(entry.key);
    if (entry.key === "<<")
      report.add(entry.at, here, "YAML merge keys (<<) are not accepted.", "Write the keys out.");
    else if (entry.key === "__proto__")
      report.add(entry.at, here, "The key __proto__ is reserved by JavaScript.", "Choose another key.");
    else if (earlier !== undefined)
      report.add(
        entry.at,
        here,
        `The key ${show(entry.key)} stands twice${report.text === undefined ? "" : ` (first on line ${report.lineOf(earlier.at)})`}.`,
        "Keep one of the two.",
      );
    else {
      seen.set(entry.key, entry);
      yield entry;
    }
  }
}

/** A mapping with the known keys of a level; absent ones stay absent. */
export function record<T extends object>(
  level: Level,
  shape: { [K in keyof T & string]: Check<T[K]> },
): Check<Partial<T>> {
  const checks = new Map<string, Check<unknown>>(Object.entries<Check<unknown>>(shape));
  return (tree, path, report) => {
    const keys = KEYS[level].join(", ");
    if (tree.kind !== "map")
      return wrongKind(tree, path, report, "a mapping", `Write a mapping with the keys ${keys}.`);
    const found: [string, unknown][] = [];
    for (const { key, at, value } of entriesOf(tree, path, report)) {
      const check = checks.get(key);
      const here = child(path, key);
      if (check !== undefined) found.push([key, check(value, here, report)]);
      else report.add(at, here, `Unknown key ${show(key)}.`, report.full ? "" : keyRemedy(key, level));
    }
    return Object.fromEntries(found) as Partial<T>;
  };
}

/** A mapping of free keys to strings. */
export function strings(rule: {
  key: (entry: Entry, path: string, report: Report) => void;
  value: (key: string) => Check<string>;
  most: number;
  example: string;
}): Check<Record<string, string>> {
  return (tree, path, report) => {
    if (tree.kind !== "map")
      return wrongKind(tree, path, report, "a mapping of strings", `Write a mapping: ${rule.example}.`);
    const found: [string, string][] = [];
    let count = 0;
    for (const entry of entriesOf(tree, path, report)) {
      count += 1;
      if (count === rule.most + 1)
        report.add(
          entry.at,
          path,
          `${path} has ${tree.entries.length} keys; at most ${rule.most} are allowed.`,
          "Remove the others.",
        );
      const here = child(path, entry.key);
      rule.key(entry, here, report);
      const value = rule.value(entry.key)(entry.value, here, report);
      if (value !== undefined) found.push([entry.key, value]);
    }
    // fromEntries defines own properties, so a key such as "constructor" is only a key.
    return Object.fromEntries(found);
  };
}

export const UNBOUNDED = FORMFILE_LIMITS.values;
