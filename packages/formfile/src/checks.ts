// The checks that rules are made of. A check looks at one value, reports what is wrong with it, and returns
// the decoded value if nothing is.

import { byteLength, childPath, codeName, forbiddenIn, quote } from "./characters.ts";
import { KEYS, keyRemedy, type Level } from "./key-remedies.ts";
import type { Report } from "./report.ts";
import { describeType, type Entry, type Tree } from "./syntax-tree.ts";

/** @returns undefined if the value is wrong and was reported */
export type Check<T> = (tree: Tree, path: string, report: Report) => T | undefined;

/** Reports a value of the wrong type, unless its reader has reported it. */
export function reportType(
  tree: Tree,
  path: string,
  report: Report,
  wanted: string,
  remedy: string,
): undefined {
  if (tree.kind !== "reported")
    report.add(
      tree.at,
      path,
      `${path || "The formfile"} must be ${wanted}, not ${describeType(tree)}.`,
      remedy,
    );
  return undefined;
}

/**
 * Reports forbidden characters of a decoded text.
 * @param allowed control characters that are allowed here.
 * @returns whether there are none
 */
export function checkCharacters(
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
  report.markReported(place.at, place.end);
  return false;
}

export interface StringRule {
  /** Control characters that are allowed. */
  allowed?: string;
  /** Whether empty and blank strings are accepted. Default: false. */
  allowEmpty?: boolean;
  maxBytes: number;
  /** How to write the value, if it is no string at all. */
  remedy: string;
}

/** A string. */
export function stringCheck(rule: StringRule): Check<string> {
  return (tree, path, report) => {
    if (tree.kind !== "scalar" || typeof tree.value !== "string") {
      const colon =
        tree.kind === "map" ? ' YAML reads "a: b" as a mapping; a string that holds ": " needs quotes.' : "";
      return reportType(tree, path, report, "a string", rule.remedy + colon);
    }
    const { value } = tree;
    if (!rule.allowEmpty && value.trim() === "") {
      report.add(tree.at, path, `${path} is ${value === "" ? "empty" : "blank"}.`, rule.remedy);
      return undefined;
    }
    if (!checkCharacters(value, rule.allowed ?? "", tree, path, report)) return undefined;
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
  maxItems: number;
  /** A correct list, for the remedy. */
  example: string;
  /** Whether equal items are refused. */
  unique?: boolean;
}

/** A list whose items pass a check. */
export function listCheck<T extends string | number>(rule: ListRule<T>): Check<T[]> {
  return (tree, path, report) => {
    if (tree.kind !== "list")
      return reportType(tree, path, report, "a list", `Write a list: ${rule.example}.`);
    const values: T[] = [];
    const firstAt = new Map<T, number>();
    for (const [index, item] of tree.items.entries()) {
      if (index === rule.maxItems) {
        report.add(
          item.at,
          path,
          `${path} has ${tree.items.length} items; at most ${rule.maxItems} are allowed.`,
          "Remove the others.",
        );
        break;
      }
      const here = childPath(path, index);
      const value = rule.item(item, here, report);
      if (value === undefined) continue;
      const earlier = rule.unique ? firstAt.get(value) : undefined;
      if (earlier === undefined) {
        firstAt.set(value, index);
        values.push(value);
      } else
        report.add(item.at, here, `${here} repeats ${childPath(path, earlier)}.`, "Remove one of the two.");
    }
    return values;
  };
}

/** A whole number within bounds. */
export function integerCheck(
  bounds: { min: number; max: number },
  remedy: (tree: Tree) => string,
): Check<number> {
  return (tree, path, report) => {
    const range = `a whole number from ${bounds.min} to ${bounds.max}`;
    if (tree.kind !== "scalar" || typeof tree.value !== "number")
      return reportType(tree, path, report, range, remedy(tree));
    if (Number.isInteger(tree.value) && tree.value >= bounds.min && tree.value <= bounds.max)
      return tree.value;
    report.add(tree.at, path, `${path} is ${tree.value}; it must be ${range}.`, remedy(tree));
    return undefined;
  };
}

/** true or false. */
export const booleanCheck: Check<boolean> = (tree, path, report) =>
  tree.kind === "scalar" && typeof tree.value === "boolean"
    ? tree.value
    : reportType(tree, path, report, "true or false", "Write true or false, without quotes.");

/** The entries of a mapping. Repeated and reserved keys are reported and skipped. */
function* entriesOf(tree: Tree & { kind: "map" }, path: string, report: Report): Generator<Entry> {
  const seen = new Map<string, Entry>();
  for (const entry of tree.entries) {
    const here = childPath(path, entry.key);
    const earlier = seen.get(entry.key);
    if (entry.key === "<<")
      report.add(entry.at, here, "YAML merge keys (<<) are not accepted.", "Write the keys out.");
    else if (entry.key === "__proto__")
      report.add(entry.at, here, "The key __proto__ is reserved by JavaScript.", "Choose another key.");
    else if (earlier !== undefined)
      report.add(
        entry.at,
        here,
        `The key ${quote(entry.key)} stands twice${report.text === undefined ? "" : ` (first on line ${report.lineOf(earlier.at)})`}.`,
        "Keep one of the two.",
      );
    else {
      seen.set(entry.key, entry);
      yield entry;
    }
  }
}

/** A mapping with the known keys of a level. Absent keys stay absent. */
export function objectCheck<T extends object>(
  level: Level,
  shape: { [K in keyof T & string]: Check<T[K]> },
): Check<Partial<T>> {
  const checks = new Map<string, Check<unknown>>(Object.entries<Check<unknown>>(shape));
  return (tree, path, report) => {
    const keys = KEYS[level].join(", ");
    if (tree.kind !== "map")
      return reportType(tree, path, report, "a mapping", `Write a mapping with the keys ${keys}.`);
    const found: [string, unknown][] = [];
    for (const { key, at, value } of entriesOf(tree, path, report)) {
      const check = checks.get(key);
      const here = childPath(path, key);
      if (check !== undefined) found.push([key, check(value, here, report)]);
      else report.add(at, here, `Unknown key ${quote(key)}.`, report.full ? "" : keyRemedy(key, level));
    }
    return Object.fromEntries(found) as Partial<T>;
  };
}

/** A mapping of arbitrary keys to strings. */
export function stringMapCheck(rule: {
  key: (entry: Entry, path: string, report: Report) => void;
  value: (key: string) => Check<string>;
  maxKeys: number;
  example: string;
}): Check<Record<string, string>> {
  return (tree, path, report) => {
    if (tree.kind !== "map")
      return reportType(tree, path, report, "a mapping of strings", `Write a mapping: ${rule.example}.`);
    const found: [string, string][] = [];
    let count = 0;
    for (const entry of entriesOf(tree, path, report)) {
      count += 1;
      if (count === rule.maxKeys + 1)
        report.add(
          entry.at,
          path,
          `${path} has ${tree.entries.length} keys; at most ${rule.maxKeys} are allowed.`,
          "Remove the others.",
        );
      const here = childPath(path, entry.key);
      rule.key(entry, here, report);
      const value = rule.value(entry.key)(entry.value, here, report);
      if (value !== undefined) found.push([entry.key, value]);
    }
    // fromEntries defines own properties, so keys such as "constructor" are harmless.
    return Object.fromEntries(found);
  };
}
