// Reads YAML 1.2 text (core schema, by the `yaml` package) into a tree with places. Depth and size are
// checked token by token, before any recursive or quadratic code runs. The dangerous or surprising features
// of YAML (anchors, aliases, tags, directives, several documents) are refused.
import {
  Composer,
  CST,
  type Document,
  isAlias,
  isMap,
  isScalar,
  isSeq,
  Lexer,
  Parser,
  type YAMLError,
} from "yaml";
import { childPath } from "./characters.ts";
import { FORMFILE_LIMITS } from "./limits.ts";
import type { Report } from "./report.ts";
import type { Entry, Tree } from "./syntax-tree.ts";
import { yamlRemedy } from "./yaml-remedies.ts";

type Feature = "anchor" | "alias" | "tag" | "directive";

/** Where a refused feature is used. */
interface Mark {
  what: Feature;
  at: number;
}

interface Scan {
  tokens: CST.Token[];
  marks: Mark[];
  /** Offsets of the opening quotes of quoted strings. */
  quotes: number[];
}

const REFUSALS: Record<Feature, [problem: string, remedy: string]> = {
  anchor: [
    "YAML anchors (&name) are not accepted.",
    "Remove the anchor. If the text starts with &, put it in quotes.",
  ],
  alias: [
    "YAML aliases (*name) are not accepted.",
    "Write the value out. If the text starts with *, put it in quotes.",
  ],
  tag: [
    "YAML tags (!name) are not accepted.",
    "Remove the tag. If the text starts with !, put it in quotes.",
  ],
  directive: ["YAML directives (%…) are not accepted.", "Remove the line; formfiles are YAML 1.2."],
};

/** Errors of the composer about refused features, which are reported already. */
const REFUSED_FEATURE_ERRORS = new Set([
  "ALIAS_PROPS",
  "BAD_ALIAS",
  "BAD_DIRECTIVE",
  "BAD_PROP_ORDER",
  "MULTIPLE_ANCHORS",
  "MULTIPLE_TAGS",
  "TAG_RESOLVE_FAILED",
]);

const COLLECTIONS = new Set(["block-map", "block-seq", "flow-collection"]);

/** Reads YAML text. Undefined if its syntax is wrong; the report says where. */
export function readYaml(text: string, report: Report): Tree | undefined {
  const scanned = scan(text, report);
  if (scanned === undefined) return undefined;
  const { tokens, marks, quotes } = scanned;
  const document = compose(tokens, text.length, report);
  const wrong =
    document?.errors.filter((error) => marks.length === 0 || !REFUSED_FEATURE_ERRORS.has(error.code)) ?? [];
  // Of several errors at one place the last is the most precise: a value that runs on is first read as a
  // nested mapping.
  const byPlace = new Map(wrong.map((error) => [error.pos[0], error]));
  for (const error of byPlace.values()) addSyntax(error, text, quotes, report);
  const tree = document === undefined || wrong.length > 0 ? undefined : convert(document, marks, report);
  for (const { what, at } of marks) report.add(at, "", ...REFUSALS[what]);
  return tree;
}

/** Feeds the parser token by token, and stops as soon as a limit is exceeded. */
function scan(text: string, report: Report): Scan | undefined {
  const parser = new Parser();
  const tokens: CST.Token[] = [];
  const marks: Mark[] = [];
  const quotes: number[] = [];
  let seen = 0;
  let documents = 0;
  let scalar = false;
  for (const lexeme of new Lexer().lex(text)) {
    seen += 1;
    const at = parser.offset;
    const type: CST.TokenType | null = scalar ? "scalar" : CST.tokenType(lexeme);
    scalar = !scalar && type === "scalar";
    if (type === "anchor" || type === "alias" || type === "tag") marks.push({ what: type, at });
    if (type === "single-quoted-scalar" || type === "double-quoted-scalar") quotes.push(at);
    if (type === "directive-line") marks.push({ what: "directive", at });
    for (const token of parser.next(lexeme)) {
      if (token.type === "document") documents += 1;
      tokens.push(token);
    }
    if (documents > 0 && parser.stack[0]?.type === "document") {
      report.add(
        parser.stack[0].offset,
        "",
        "A second YAML document begins here.",
        "Keep one document and remove ---.",
      );
      return { tokens, marks, quotes };
    }
    if (seen > FORMFILE_LIMITS.yamlTokens) {
      report.add(at, "", "The YAML has too many tokens.", "Move scripts into files named under include.");
      return undefined;
    }
    if (parser.stack.length > FORMFILE_LIMITS.depth && depthOf(parser) > FORMFILE_LIMITS.depth) {
      report.add(
        at,
        "",
        `The formfile is nested deeper than ${FORMFILE_LIMITS.depth} levels.`,
        "Flatten it: a formfile needs three levels.",
      );
      return undefined;
    }
  }
  tokens.push(...parser.end());
  return { tokens, marks, quotes };
}

function depthOf(parser: Parser): number {
  return parser.stack.filter((token) => COLLECTIONS.has(token.type)).length;
}

function compose(tokens: CST.Token[], length: number, report: Report): Document.Parsed | undefined {
  const composer = new Composer({
    version: "1.2",
    schema: "core",
    merge: false,
    // The rules find duplicates. The library's search is quadratic.
    uniqueKeys: false,
    stringKeys: true,
    prettyErrors: false,
    logLevel: "silent",
  });
  try {
    for (const document of composer.compose(tokens, true, length)) return document;
  } catch {
    report.add(0, "", "The YAML could not be read.", "Write it in plain block style, or as JSON.");
  }
  return undefined;
}

function addSyntax(error: YAMLError, text: string, quotes: number[], report: Report): void {
  const end = Math.min(error.pos[0], text.length);
  const [problem, remedy, atQuote] = yamlRemedy(error, text);
  const at = atQuote === true ? (quotes.findLast((quote) => quote < end) ?? end) : end;
  report.add(at, "", problem, remedy);
}

function convert(document: Document.Parsed, marks: Mark[], report: Report): Tree | undefined {
  let values = 0;

  /** Reports the nearest unreported mark before a value, under the path of that value. */
  function reportMark(what: Feature, before: number, path: string): void {
    const index = marks.findLastIndex((mark) => mark.what === what && mark.at <= before);
    const mark = marks[index];
    if (mark === undefined) return;
    marks.splice(index, 1);
    report.add(mark.at, path, ...REFUSALS[what]);
  }

  function visit(node: unknown, path: string, fallback: { at: number; end: number }): Tree {
    values += 1;
    if (isAlias(node)) {
      const at = node.range?.[0] ?? fallback.at;
      reportMark("alias", at, path);
      return { kind: "reported", at, end: at };
    }
    if (!isScalar(node) && !isMap(node) && !isSeq(node)) return { kind: "scalar", ...fallback, value: null };
    const at = node.range?.[0] ?? fallback.at;
    const end = node.range?.[1] ?? at;
    if (node.anchor !== undefined) reportMark("anchor", at, path);
    if (node.tag !== undefined && marks.length > 0) reportMark("tag", at, path);
    if (isScalar(node)) {
      const place = end > at ? { at, end } : fallback;
      return { kind: "scalar", ...place, value: plain(node.value) };
    }
    if (isSeq(node)) {
      const items = node.items.map((item, index) => visit(item, childPath(path, index), { at, end: at }));
      return { kind: "list", at, end, items };
    }
    const entries: Entry[] = [];
    for (const pair of node.items) {
      const name = isScalar(pair.key) ? String(pair.key.value ?? "") : "";
      const keyAt = isScalar(pair.key) ? (pair.key.range?.[0] ?? at) : at;
      const keyEnd = isScalar(pair.key) ? (pair.key.range?.[1] ?? keyAt) : keyAt;
      const value = visit(pair.value, childPath(path, name), { at: keyAt, end: keyEnd });
      entries.push({ key: name, at: keyAt, end: keyEnd, value });
    }
    return { kind: "map", at, end, entries };
  }

  const tree = visit(document.contents, "", { at: 0, end: 0 });
  if (values <= FORMFILE_LIMITS.values) return tree;
  report.add(
    0,
    "",
    `The formfile holds more than ${FORMFILE_LIMITS.values} values.`,
    "Join run commands with && or move them into a script named under include.",
  );
  return undefined;
}

function plain(value: unknown): string | number | boolean | null {
  if (typeof value === "string" || typeof value === "number" || typeof value === "boolean") return value;
  return value === null || value === undefined ? null : String(value);
}
