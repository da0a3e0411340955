// TypeScript split into its code and its comments. Each keeps every character at its place and has spaces
// elsewhere, so that no rule takes a word in a text for code. The rules about imports and functions read the
// code.

/** Words after which a slash begins a regular expression and does not divide. */
const BEFORE_REGEX =
  /(?:^|[-+*%=<>!&|^~?:;,([{}]|\b(?:return|typeof|case|in|of|do|else|void|throw|await|yield))$/;

/** A source in two layers of the same length: code with empty texts and patterns, and comments alone. */
export interface Layers {
  /** Strings, templates and regular expressions are blank between their quotes; comments are blank. */
  code: string;
  /** Everything but comments is blank. */
  comments: string;
}

/** The source with everything but code blanked; quotes stay. */
export function codeOf(source: string): string {
  return layersOf(source).code;
}

/** Splits a source. */
export function layersOf(source: string): Layers {
  const code: string[] = [];
  const comments: string[] = [];
  /** For each template literal we are inside of, how many braces its current `${` has open. */
  const templates: number[] = [];
  let at = 0;

  const copy = (length = 1) => {
    const text = source.slice(at, at + length);
    code.push(text);
    comments.push(text.replace(/[^\n]/g, " "));
    at += length;
  };
  const blankTo = (end: number, isComment = false) => {
    const text = source.slice(at, end);
    const blank = text.replace(/[^\n]/g, " ");
    code.push(blank);
    comments.push(isComment ? text : blank);
    at = end;
  };
  const skipWhile = (stop: (index: number) => boolean) => {
    let end = at;
    while (end < source.length && !stop(end)) end += source[end] === "\\" ? 2 : 1;
    blankTo(Math.min(end, source.length));
  };
  const template = () => {
    skipWhile((i) => source[i] === "`" || source.startsWith("${", i));
    if (source.startsWith("${", at)) {
      templates.push(0);
      copy(2);
    } else copy();
  };

  while (at < source.length) {
    const two = source.slice(at, at + 2);
    const one = source[at] ?? "";
    if (two === "//" || two === "#!") blankTo(endOr(source.indexOf("\n", at), source), true);
    else if (two === "/*") blankTo(endOr(source.indexOf("*/", at + 2) + 2, source), true);
    else if (one === '"' || one === "'") {
      copy();
      skipWhile((i) => source[i] === one || source[i] === "\n");
      copy();
    } else if (one === "`") {
      copy();
      template();
    } else if (one === "/" && BEFORE_REGEX.test(code.slice(-40).join("").trimEnd())) {
      let inClass = false;
      copy();
      skipWhile((i) => {
        if (source[i] === "[") inClass = true;
        else if (source[i] === "]") inClass = false;
        return (source[i] === "/" && !inClass) || source[i] === "\n";
      });
      copy();
    } else if (templates.length > 0 && (one === "{" || one === "}")) {
      const open = (templates.pop() ?? 0) + (one === "{" ? 1 : -1);
      copy();
      if (open < 0) template();
      else templates.push(open);
    } else copy();
  }
  return { code: code.join(""), comments: comments.join("") };
}

function endOr(index: number, source: string): number {
  return index < 2 ? source.length : index;
}

/** A module that a source names: statically, dynamically, by `require` or as a type. */
export interface ImportedModule {
  name: string;
  line: number;
}

/** Every module that a source imports or re-exports from. */
export function importsOf(source: string, code: string): ImportedModule[] {
  const found: ImportedModule[] = [];
  for (const match of code.matchAll(
    /(?:\bfrom|\bimport(?:\s*\()?|\brequire(?:\.resolve)?\s*\(|\bcreateRequire\s*\([^)]*\)\s*\()\s*(["'])( *)\1/g,
  )) {
    const start = match.index + match[0].length - (match[2] ?? "").length - 1;
    const name = source.slice(start, start + (match[2] ?? "").length);
    if (name !== "") found.push({ name, line: lineAt(source, match.index) });
  }
  return found;
}

/** The line, from 1, that a position is on. */
export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}
