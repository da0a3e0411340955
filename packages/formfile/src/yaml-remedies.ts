// Problem and remedy for each error of the YAML library. The library's own messages repeat parts of the text,
// which may hold secrets, so they are never shown.
import type { YAMLError } from "yaml";

/** `atQuote`: the issue is shown where the string begins, not where the text ends. */
type Remedy = [problem: string, remedy: string, atQuote?: boolean];

const QUOTE = "Put the value in quotes.";

const BY_CODE: Partial<Record<YAMLError["code"], Remedy>> = {
  BAD_DQ_ESCAPE: [
    "A double-quoted string holds an escape that YAML does not know.",
    "Write \\\\ for a backslash, or use single quotes.",
  ],
  BAD_INDENT: [
    "The indentation does not fit the lines above.",
    "Start all keys of a mapping and all - of a list in the same column, with spaces.",
  ],
  BAD_SCALAR_START: ["A value begins with a character that YAML reserves.", QUOTE],
  BLOCK_AS_IMPLICIT_KEY: [
    "A mapping or list begins where a plain value must stand.",
    'A value that holds ": " needs quotes; a nested mapping or list goes on the next line, indented.',
  ],
  BLOCK_IN_FLOW: ["Block style stands inside […] or {…}.", "Use […] and {…} all the way in, or block style."],
  KEY_OVER_1024_CHARS: ["A key is longer than 1024 characters.", "Shorten the key."],
  MULTILINE_IMPLICIT_KEY: [
    "A text runs on into the next line, where a key seems to be meant.",
    "Start all keys of a mapping in the same column and write a colon after each.",
  ],
  NON_STRING_KEY: ["A key is not a plain string.", "Write the key as text."],
  TAB_AS_INDENT: ["A tab is used as indentation.", "Indent with spaces."],
};

const UNCLOSED: Remedy = ["A quoted string is not closed.", "Close it with the quote that opened it.", true];

/** Problem and remedy of a syntax error. */
export function yamlRemedy(error: YAMLError, text: string): Remedy {
  const line = lineAround(text, Math.min(error.pos[0], text.length));
  if (/^ *\t/.test(line)) return BY_CODE.TAB_AS_INDENT ?? UNCLOSED;
  const known = BY_CODE[error.code];
  if (known !== undefined) return known;
  if (error.code === "MISSING_CHAR") {
    if (/closing/.test(error.message)) return UNCLOSED;
    if (/map values/.test(error.message))
      return ["A line of a mapping has no colon.", "Write key: value, with a space after the colon."];
    if (/indicator/.test(error.message) && /Sequence/.test(error.message))
      return ["A line of a list has no dash.", "Begin every item with - and a space."];
  }
  if (/flow (?:map|seq)/.test(error.message))
    return ["[…] or {…} is not well formed.", "Put a comma between the values and close the bracket."];
  return [
    "The YAML syntax is wrong here.",
    "Check quotes, colons and indentation; a value with special characters needs quotes.",
  ];
}

function lineAround(text: string, at: number): string {
  const start = text.lastIndexOf("\n", at - 1) + 1;
  return text.slice(start, Math.min(start + 256, endOfLine(text, start)));
}

function endOfLine(text: string, start: number): number {
  const end = text.indexOf("\n", start);
  return end < 0 ? text.length : end;
}
