// Reads JSON text (RFC 8259) into a tree with places. JSON.parse gives no places. This reader also continues
// after common mistakes (trailing comma, comment, missing comma, tab in a string), so that one parse reports
// them all. docs/decisions/0013-json-reader.md says why it is hand-written.

import { quote } from "./characters.ts";
import { FORMFILE_LIMITS } from "./limits.ts";
import type { Report } from "./report.ts";
import type { Entry, Tree } from "./syntax-tree.ts";

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const BARE_WORD = /[\w.+$-]+/y;
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

/** Ends the parse after a fatal error was reported. Never leaves this file. */
class Fatal extends Error {}

/** Whether a text is read as JSON: its first character, after comments, is `{` or `[`. */
export function looksLikeJson(text: string): boolean {
  let at = 0;
  for (;;) {
    while (isSpace(text[at])) at += 1;
    if (text.startsWith("//", at)) at = endOf(text, "\n", at);
    else if (text.startsWith("/*", at)) at = endOf(text, "*/", at);
    else return text[at] === "{" || text[at] === "[";
  }
}

/** Reads JSON text. Undefined after a fatal error; the report says which. */
export function readJson(text: string, report: Report): Tree | undefined {
  try {
    return new JsonReader(text, report).document();
  } catch (error) {
    if (error instanceof Fatal) return undefined;
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
    this.#skipSpaceAndComments();
    if (this.#at < this.#text.length)
      this.#fail("Something follows the end of the JSON.", "Keep one object and remove what follows it.");
    return tree;
  }

  #addIssue(at: number, problem: string, remedy: string): void {
    this.#report.add(at, "", problem, remedy);
  }

  #fail(problem: string, remedy: string, at = this.#at): never {
    this.#addIssue(at, problem, remedy);
    throw new Fatal();
  }

  #skipSpaceAndComments(): void {
    for (;;) {
      while (isSpace(this.#text[this.#at])) this.#at += 1;
      const line = this.#text.startsWith("//", this.#at) || this.#text[this.#at] === "#";
      if (!line && !this.#text.startsWith("/*", this.#at)) return;
      this.#addIssue(this.#at, "JSON has no comments.", "Remove the comment, or write the formfile as YAML.");
      this.#at = endOf(this.#text, line ? "\n" : "*/", this.#at);
    }
  }

  #value(): Tree {
    this.#skipSpaceAndComments();
    this.#values += 1;
    if (this.#values > FORMFILE_LIMITS.values)
      this.#fail(
        `The formfile holds more than ${FORMFILE_LIMITS.values} values.`,
        "Join run commands with && or move them into a script named under include.",
      );
    const at = this.#at;
    const first = this.#text[at];
    if (first === "{") return this.#nested("}", () => this.#object(at));
    if (first === "[") return this.#nested("]", () => this.#list(at));
    if (first === '"') return { kind: "scalar", at, value: this.#string(), end: this.#at };
    return this.#literal(at);
  }

  #literal(at: number): Tree {
    const word = match(BARE_WORD, this.#text, at);
    const end = at + word.length;
    this.#at = end;
    if (word === "true" || word === "false") return { kind: "scalar", at, end, value: word === "true" };
    if (word === "null") return { kind: "scalar", at, end, value: null };
    if (word !== "" && match(NUMBER, this.#text, at) === word)
      return { kind: "scalar", at, end, value: Number(word) };
    this.#at = at;
    if (at >= this.#text.length)
      this.#fail("The JSON ends where a value must stand.", "Finish the document.");
    if (this.#text[at] === "'")
      this.#fail("JSON has no single-quoted strings.", "Use double quotes, or write the formfile as YAML.");
    if (/^[-+.\d]/.test(word))
      this.#fail(
        "This is not a JSON number.",
        "Write a plain decimal such as 8080, or quote it as a string.",
      );
    return this.#fail(
      "A JSON value must stand here.",
      "Write a string in double quotes, a number, true, false, null, […] or {…}.",
    );
  }

  #nested(closing: string, read: () => Tree): Tree {
    if (this.#depth >= FORMFILE_LIMITS.depth)
      this.#fail(
        `The formfile is nested deeper than ${FORMFILE_LIMITS.depth} levels.`,
        "Flatten it: a formfile needs three levels.",
      );
    this.#depth += 1;
    const open = this.#at;
    this.#at += 1;
    const tree = read();
    if (this.#text[this.#at] !== closing) {
      const line = this.#report.lineOf(open);
      this.#fail(
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

  /** Moves to the beginning of the next member. False if there is none. */
  #nextMember(first: boolean, closing: string, starts: RegExp): boolean {
    this.#skipSpaceAndComments();
    const at = this.#at;
    const comma = this.#text[at] === ",";
    if (first) {
      if (!comma) return this.#text[at] !== closing;
      this.#fail("A comma stands where the first value must.", "Remove the comma.");
    }
    if (!comma) {
      if (!starts.test(this.#text[at] ?? "")) return false;
      this.#addIssue(at, "A comma is missing before this.", "Write a comma between the two.");
      return true;
    }
    this.#at += 1;
    this.#skipSpaceAndComments();
    if (this.#text[this.#at] !== closing) return true;
    this.#addIssue(at, `JSON has no trailing comma before ${closing}.`, "Remove the comma.");
    return false;
  }

  #list(at: number): Tree {
    const items: Tree[] = [];
    while (this.#nextMember(items.length === 0, "]", /["{[\w-]/)) items.push(this.#value());
    return { kind: "list", at, end: at, items };
  }

  #object(at: number): Tree {
    const entries: Entry[] = [];
    while (this.#nextMember(entries.length === 0, "}", /"/)) {
      const start = this.#at;
      if (this.#text[start] !== '"') {
        const key = match(BARE_WORD, this.#text, start);
        this.#fail(
          start >= this.#text.length ? "The JSON ends where a key must stand." : "A key must stand here.",
          key === ""
            ? 'Write the key in double quotes: "from".'
            : `Write the key in double quotes: ${quote(key)}.`,
        );
      }
      const key = this.#string();
      const end = this.#at;
      this.#skipSpaceAndComments();
      if (this.#text[this.#at] !== ":")
        this.#fail(`A colon must follow the key ${quote(key)}.`, 'Write "key": value.');
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
      while (!endsRun(this.#text[this.#at])) this.#at += 1;
      value += this.#text.slice(from, this.#at);
      const special = this.#text[this.#at];
      if (special === '"') {
        this.#at += 1;
        return value;
      }
      if (special === "\\") value += this.#escape();
      else if (special === "\t") {
        this.#addIssue(this.#at, "A JSON string holds a raw tab.", "Write \\t.");
        value += special;
        this.#at += 1;
      } else
        this.#fail(
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
      this.#fail("This is not a JSON escape.", 'Write \\\\ for a backslash, or one of \\n \\t \\" \\uXXXX.');
    this.#at += 6;
    return String.fromCharCode(Number.parseInt(digits, 16));
  }
}

function isSpace(character: string | undefined): boolean {
  return character === " " || character === "\n" || character === "\r" || character === "\t";
}

/**
 * Whether a character ends a run of ordinary characters in a string. The rules report other control
 * characters.
 */
function endsRun(character: string | undefined): boolean {
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
