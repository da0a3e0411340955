// Reads a decoded value into a tree. Nothing about the value is trusted: cycles, depth, size, classes, and
// getters and proxies that throw all become issues.

import { byteLength, childPath } from "./characters.ts";
import { FORMFILE_LIMITS } from "./limits.ts";
import type { Report } from "./report.ts";
import type { Tree } from "./syntax-tree.ts";

/**
 * A parsed formfile must parse again, and is a little longer than its text because defaults are filled in.
 */
const DEFAULTS_BYTES = 1024;

class TooLarge extends Error {}

/** Reads a decoded value. Undefined if it cannot be read as a whole; the report says why. */
export function readObject(value: unknown, report: Report): Tree | undefined {
  let order = 0;
  let values = 0;
  let bytes = 0;
  const ancestors = new Set<object>();

  function countBytes(text: string): void {
    bytes += text.length > FORMFILE_LIMITS.textBytes ? text.length : byteLength(text);
    if (bytes > FORMFILE_LIMITS.textBytes + DEFAULTS_BYTES) throw new TooLarge("bytes");
  }

  function refuse(at: number, path: string, what: string, remedy: string): Tree {
    report.add(at, path, `${path === "" ? "The formfile" : path} ${what}.`, remedy);
    return { kind: "reported", at, end: at };
  }

  function visit(from: unknown, path: string): Tree {
    const at = order++;
    values += 1;
    if (values > FORMFILE_LIMITS.values) throw new TooLarge("values");
    if (typeof from === "string") countBytes(from);
    if (from === null || typeof from === "string" || typeof from === "number" || typeof from === "boolean")
      return { kind: "scalar", at, end: at, value: from };
    if (typeof from !== "object")
      return refuse(
        at,
        path,
        `is ${from === undefined ? "undefined" : `a ${typeof from}`}`,
        "Use only what JSON can say: strings, numbers, booleans, lists and objects.",
      );
    if (ancestors.has(from)) return refuse(at, path, "contains itself", "Write the value out; no cycles.");
    if (ancestors.size >= FORMFILE_LIMITS.depth)
      return refuse(
        at,
        path,
        `is nested deeper than ${FORMFILE_LIMITS.depth} levels`,
        "Flatten it: a formfile needs three levels.",
      );
    ancestors.add(from);
    const tree = Array.isArray(from) ? list(from, path, at) : map(from, path, at);
    ancestors.delete(from);
    return tree;
  }

  function list(from: unknown[], path: string, at: number): Tree {
    if (from.length > FORMFILE_LIMITS.values) throw new TooLarge("values");
    const items: Tree[] = [];
    for (let index = 0; index < from.length; index += 1)
      items.push(visit(from[index], childPath(path, index)));
    return { kind: "list", at, end: at, items };
  }

  function map(from: object, path: string, at: number): Tree {
    const prototype: unknown = Object.getPrototypeOf(from);
    const plain = prototype === null || Object.getPrototypeOf(prototype) === null;
    if (!plain || Symbol.iterator in from)
      return refuse(at, path, "is an object of a class", "Pass a plain object, as JSON.parse makes it.");
    const tree: Tree = { kind: "map", at, end: at, entries: [] };
    for (const key of Object.keys(from)) {
      const value: unknown = Reflect.get(from, key);
      if (value === undefined) continue;
      countBytes(key);
      const keyAt = order++;
      tree.entries.push({ key, at: keyAt, end: keyAt, value: visit(value, childPath(path, key)) });
    }
    return tree;
  }

  try {
    return visit(value, "");
  } catch (error) {
    if (!(error instanceof TooLarge))
      report.add(0, "", "The formfile could not be read as a plain object.", "Pass what JSON.parse returns.");
    else if (error.message === "bytes")
      report.add(
        0,
        "",
        `The formfile is larger than ${FORMFILE_LIMITS.textBytes} bytes.`,
        "Move scripts and data into files and name them under include.",
      );
    else
      report.add(
        0,
        "",
        `The formfile holds more than ${FORMFILE_LIMITS.values} values.`,
        "Join run commands with && or move them into a script named under include.",
      );
    return undefined;
  }
}
