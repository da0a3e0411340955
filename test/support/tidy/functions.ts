// The rule about the length of functions. A function is found by its braces, or, for an arrow without braces,
// by the end of its expression; what stands before them says whether they are a function's.

import { lineAt } from "./lexer.ts";
import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

const MAX_LINES = 100;

/** A function as it lies in a file. */
export interface FoundFunction {
  name: string;
  /** Where it begins, from 1, and how many lines it has with its head. */
  line: number;
  lines: number;
}

/** No function is longer than 100 lines, outside of tests and `testing/`. */
export function longFunctions({ files }: Tree): Offence[] {
  return files.filter(isJudged).flatMap(({ path, code }) =>
    functionsIn(code)
      .filter(({ lines }) => lines > MAX_LINES)
      .map(({ name, line, lines }) => ({
        path,
        line,
        advice: `${name} has ${lines} lines, ${MAX_LINES} at most: split it by what its parts know.`,
      })),
  );
}

function isJudged({ path, part }: SourceFile): boolean {
  return (
    path.endsWith(".ts") && part !== "test" && part !== "testing" && !/\.(?:test|config)\.ts$/.test(path)
  );
}

/** Every function, method and arrow function of a source whose texts and comments are blank. */
export function functionsIn(code: string): FoundFunction[] {
  const found: FoundFunction[] = [];
  const open: number[] = [];
  for (let at = 0; at < code.length; at++) {
    if (code[at] === "{") open.push(at);
    else if (code[at] === "}") {
      const start = open.pop();
      const head = start === undefined ? undefined : headBefore(code, start);
      if (head !== undefined && isFunctionHead(head.text)) found.push(functionAt(code, head, at));
    } else if (code.startsWith("=>", at) && !/^\s*\{/.test(code.slice(at + 2, at + 200))) {
      const end = endOfExpression(code, at + 2);
      if (end !== undefined) found.push(functionAt(code, headBefore(code, at + 2), end));
    }
  }
  return found;
}

interface Head {
  start: number;
  text: string;
}

function functionAt(code: string, { start, text }: Head, end: number): FoundFunction {
  const line = lineAt(code, start);
  return { name: nameIn(text), line, lines: lineAt(code, end) - line + 1 };
}

const CONTROL_FLOW = /^(?:\}\s*)?(?:if|for|while|switch|catch|else|do|try|finally|with)\b/;
const NOT_A_FUNCTION =
  /^(?:export\s+|declare\s+|default\s+|abstract\s+)*(?:class|interface|namespace|module)\b/;

/** Whether a brace after this text opens the body of a function. */
function isFunctionHead(head: string): boolean {
  if (/=>$/.test(head)) return true;
  if (head === "" || CONTROL_FLOW.test(head) || NOT_A_FUNCTION.test(head)) return false;
  // Parameters, and after them nothing or the type of the result.
  const plain = head.replaceAll("=>", "");
  return /\)(?:\s*:[^=?;]*)?$/.test(plain) && /[\w$\]>]\s*\(/.test(head) && !/[=(,[:?&|<]$/.test(head);
}

/** What stands before a position, back to where its statement, member or argument begins. */
function headBefore(code: string, end: number): Head {
  let at = end - 1;
  while (at >= 0) {
    const one = code[at] ?? "";
    if (one === ")" || one === "]") at = openerOf(code, at);
    else if (one === "}") {
      const opener = openerOf(code, at);
      // An object type inside a type belongs to the head; the block of a statement before it does not.
      if (!/[:<|&,]\s*$/.test(code.slice(Math.max(0, opener - 40), opener))) break;
      at = opener;
    } else if (/[;{([]/.test(one)) break;
    else if (one === "," && !isInsideAngles(code.slice(at + 1, end))) break;
    at--;
  }
  const text = code.slice(at + 1, end);
  const start = at + 1 + text.length - text.trimStart().length;
  return { start, text: text.trim() };
}

/** Whether a comma before this text stands between type arguments: more of them close here than open. */
function isInsideAngles(text: string): boolean {
  const angles = text.replaceAll("=>", "");
  return angles.split(">").length > angles.split("<").length;
}

const PAIRS: Readonly<Record<string, string>> = { ")": "(", "]": "[", "}": "{" };

/** The bracket that the one at this position closes. */
function openerOf(code: string, closer: number): number {
  const close = code[closer] ?? "";
  let depth = 0;
  for (let at = closer; at >= 0; at--) {
    if (code[at] === close) depth++;
    else if (code[at] === PAIRS[close] && --depth === 0) return at;
  }
  return 0;
}

/**
 * Where the expression after an arrow ends; undefined if the arrow is in the type of a result, before a body.
 */
function endOfExpression(code: string, start: number): number | undefined {
  let depth = 0;
  for (let at = start; at < code.length; at++) {
    const one = code[at] ?? "";
    if (depth === 0 && one === "{" && /[\w\])>]\s*$/.test(code.slice(start, at).replace(/=>\s*$/, "")))
      return undefined;
    if (/[([{]/.test(one)) depth++;
    else if (/[)\]}]/.test(one) && --depth < 0) return at - 1;
    else if (depth === 0 && /[,;]/.test(one)) return at;
  }
  return code.length;
}

function nameIn(head: string): string {
  const declared =
    /\bfunction\s*\*?\s*([\w$]+)/.exec(head) ??
    /(?:\b(?:const|let)\s+)?([\w$]+)\s*(?::[^=]+)?=\s*(?:async\s*)?(?:<.*>\s*)?\(?[^=]*=>$/.exec(head) ??
    /([\w$]+)\s*:\s*(?:async\s*)?\(?[^=]*=>$/.exec(head) ??
    (head.endsWith("=>") ? null : /([\w$#]+)\s*(?:<.*>)?\s*\(/.exec(head));
  return declared ? `\`${declared[1]}\`` : "This function";
}
