// Reads JSON text (RFC 8259) into a tree with places. JSON.parse knows no places, and this reader goes on after
// the usual slips (trailing comma, comment, missing comma, tab in a string), so that one look shows them all.

import { show } from "./characters.ts";
import { FORMFILE_LIMITS } from "./limits.ts";
import type { Report } from "./report.ts";
import type { Entry, Tree } from "./syntax-tree.ts";

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WORD = /[\w.+$-]+/y;
const ESCAPES = new Map([
  ['"', '"'],
  ["\\", "\\"],
  ["/", "/"],
  ["b", "\b"],
  ["f", "\f"],
  ["n", "\n"],
  ["r", "\r"],
  ["t", "\t"],
]);

/** Thrown inside this file only, after the report was told. */
class Stop extends Error {}

/** Whether a text is to be read as JSON: its first character, comments aside, opens an object or a list. */
export function looksLikeJson(text: string): boolean {
  let at = 0;
  for (;;) {
    while (isSpace(text[at])) at += 1;
    if (text.startsWith("//", at)) at = endOf(text, "\n", at);
    else if (text.startsWith("/*", at)) at = endOf(text, "*/", at);
    else return text[at] === "{" || text[at] === "[";
  }
}

/** Reads JSON text; undefined when it broke off and the report says why. */
export function readJson(text: string, report: Report): Tree | undefined {
  try {
    return new JsonReader(text, report).document();
  } catch (error) {
    if (error instanceof Stop) return undefined;
    throw error;
  }
}

class JsonReader {
  readonly #text: string;
  readonly #report: Report;
  #at = 0;
  #depth = 0;
  #values = 0;

  constructor(text: string, report: Report) {
    this.#text = text;
    this.#report = report;
  }

  document(): Tree {
    const tree = this.#value();
    this.#skip();
    if (this.#at < this.#text.length)
      this.#stop("Something follows the end of the JSON.", "Keep one object and remove what follows it.");
    return tree;
  }

  #note(at: number, problem: string, remedy: string): void {
    this.#report.add(at, "", problem, remedy);
  }

  #stop(problem: string, remedy: string, at = this.#at): never {
    this.#note(at, problem, remedy);
    throw new Stop();
  }

  #skip(): void {
    for (;;) {
      while (isSpace(this.#text[this.#at])) this.#at += 1;
      const line = this.#text.startsWith("//", this.#at) || this.#text[this.#at] === "#";
      if (!line && !this.#text.startsWith("/*", this.#at)) return;
      this.#note(this.#at, "JSON has no comments.", "Remove the comment, or write the formfile as YAML.");
      this.#at = endOf(this.#text, line ? "\n" : "*/", this.#at);
    }
  }

  #value(): Tree {
    this.#skip();
    this.#values += 1;
    if (this.#values > FORMFILE_LIMITS.values)
      this.#stop(
        `The formfile holds more than ${FORMFILE_LIMITS.values} values.`,
        "Join run commands with && or move them into a script named under include.",
      );
    const at = this.#at;
    const first = this.#text[at];
    if (first === "{") return this.#nested("}", () => this.#object(at));
    if (first === "[") return this.#nested("]", () => this.#list(at));
    if (first === '"') return { kind: "scalar", at, value: this.#string(), end: this.#at };
    return this.#word(at);
  }

  #word(at: number): Tree {
    const word = match(WORD, this.#text, at);
    const end = at + word.length;
    this.#at = end;
    if (word === "true" || word === "false") return { kind: "scalar", at, end, value: word === "true" };
    if (word === "null") return { kind: "scalar", at, end, value: null };
    if (word !== "" && match(NUMBER, this.#text, at) === word)
      return { kind: "scalar", at, end, value: Number(word) };
    this.#at = at;
    if (at >= this.#text.length)
      this.#stop("The JSON ends where a value must stand.", "Finish the document.");
    if (this.#text[at] === "'")
      this.#stop("JSON has no single-quoted strings.", "Use double quotes, or write the formfile as YAML.");
    if (/^[-+.\d]/.test(word))
      this.#stop(
        "This is not a JSON number.",
        "Write a plain decimal such as 8080, or quote it as a string.",
      );
    return this.#stop(
      "A JSON value must stand here.",
      "Write a string in double quotes, a number, true, false, null, […] or {…}.",
    );
  }

  #nested(closing: string, read: () => Tree): Tree {
    if (this.#depth >= FORMFILE_LIMITS.depth)
      this.#stop(
        `The formfile is nested deeper than ${FORMFILE_LIMITS.depth} levels.`,
        "Flatten it: a formfile needs three levels.",
      );
    this.#depth += 1;
    const open = this.#at;
    this.#at += 1;
    const tree = read();
    if (this.#text[this.#at] !== closing) {
      const line = this.#report.lineOf(open);
      this.#stop(
        this.#at >= this.#text.length
          ? `The JSON ends before the ${this.#text[open]} of line ${line} is closed.`
          : `Here the ${this.#text[open]} of line ${line} must go on or be closed.`,
        `Write a comma or ${closing} here.`,
      );
    }
    this.#at += 1;
    this.#depth -= 1;
    tree.end = this.#at;
    return tree;
  }

  /** Stands before the next member; false when there is none. */
  #more(first: boolean, closing: string, starts: RegExp): boolean {
    this.#skip();
    const at = this.#at;
    const comma = this.#text[at] === ",";
    if (first) {
      if (!comma) return this.#text[at] !== closing;
      this.#stop("A comma stands where the first value must.", "Remove the comma.");
    }
    if (!comma) {
      if (!starts.test(this.#text[at] ?? "")) return false;
      this.#note(at, "A comma is missing before this.", "Write a comma between the two.");
      return true;
    }
    this.#at += 1;
    this.#skip();
    if (this.#text[this.#at] !== closing) return true;
    this.#note(at, `JSON has no trailing comma before ${closing}.`, "Remove the comma.");
    return false;
  }

  #list(at: number): Tree {
    const items: Tree[] = [];
    while (this.#more(items.length === 0, "]", /["{[\w-]/)) items.push(this.#value());
    return { kind: "list", at, end: at, items };
  }

  #object(at: number): Tree {
    const entries: Entry[] = [];
    while (this.#more(entries.length === 0, "}", /"/)) {
      const start = this.#at;
      if (this.#text[start] !== '"') {
        const key = match(WORD, this.#text, start);
        this.#stop(
          start >= this.#text.length ? "The JSON ends where a key must stand." : "A key must stand here.",
          key === ""
            ? 'Write the key in double quotes: "from".'
            : `Write the key in double quotes: ${show(key)}.`,
        );
      }
      const key = this.#string();
      const end = this.#at;
      this.#skip();
      if (this.#text[this.#at] !== ":")
        this.#stop(`A colon must follow the key ${show(key)}.`, 'Write "key": value.');
      this.#at += 1;
      entries.push({ key, at: start, end, value: this.#value() });
    }
    return { kind: "map", at, end: at, entries };
  }

  #string(): string {
    const open = this.#at;
    let value = "";
    this.#at += 1;
    for (let from = this.#at; ; from = this.#at) {
      while (!isSpecial(this.#text[this.#at])) this.#at += 1;
      value += this.#text.slice(from, this.#at);
      const special = this.#text[this.#at];
      if (special === '"') {
        this.#at += 1;
        return value;
      }
      if (special === "\\") value += this.#escape();
      else if (special === "\t") {
        this.#note(this.#at, "A JSON string holds a raw tab.", "Write \\t.");
        value += special;
        this.#at += 1;
      } else
        this.#stop(
          "This string is not closed on its line.",
          'Close it with "; write a line break as \\n.',
          open,
        );
    }
  }

  #escape(): string {
    const letter = this.#text[this.#at + 1] ?? "";
    const plain = ESCAPES.get(letter);
    if (plain !== undefined) {
      this.#at += 2;
      return plain;
    }
    const digits = this.#text.slice(this.#at + 2, this.#at + 6);
    if (letter !== "u" || !/^[\da-fA-F]{4}$/.test(digits))
      this.#stop("This is not a JSON escape.", 'Write \\\\ for a backslash, or one of \\n \\t \\" \\uXXXX.');
    this.#at += 6;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }
}

function isSpace(character: string | undefined): boolean {
  return character === " " || character === "\n" || character === "\r" || character === "\t";
}

/** What ends a run of ordinary characters inside a string; other control characters are judged by the rules. */
function isSpecial(character: string | undefined): boolean {
  return (
    character === undefined ||
    character === '"' ||
    character === "\\" ||
    character === "\t" ||
    character === "\n" ||
    character === "\r"
  );
}

function endOf(text: string, mark: string, from: number): number {
  const at = text.indexOf(mark, from);
  return at < 0 ? text.length : at + mark.length;
}

function match(pattern: RegExp, text: string, at: number): string {
  pattern.lastIndex = at;
  return pattern.exec(text)?.[0] ?? "";
}
