// The rules about the width of lines: 110 columns of TypeScript, 100 of Markdown. What no line break can
// shorten is exempt.

import type { Offence } from "./offence.ts";
import type { SourceFile, Tree } from "./tree.ts";

const CODE_COLUMNS = 110;
const MARKDOWN_COLUMNS = 100;

const URL = /\b(?:https?|postgres|nats|oci|docker):\/\/\S+/g;

/** No line of TypeScript is wider than 110 columns, but for URLs, tables, and texts that cannot be broken. */
export function wideCode({ files }: Tree): Offence[] {
  return files
    .filter(({ path }) => path.endsWith(".ts"))
    .flatMap(({ path, text, code, comments }) => {
      const codeLines = code.split("\n");
      const commentLines = comments.split("\n");
      return text.split("\n").flatMap((line, index) => {
        if (line.length <= CODE_COLUMNS) return [];
        const comment = commentLines[index]?.trim() ?? "";
        const isTooWide =
          comment === "" ? !hasLongText(line, codeLines[index] ?? "") : isWideComment(line, comment);
        return isTooWide ? [offence(path, index, line, CODE_COLUMNS)] : [];
      });
    });
}

/**
 * Whether the line has a template, or would fit without its strings and patterns. The formatter has broken
 * what it can: it breaks no template.
 */
function hasLongText(line: string, code: string): boolean {
  if (code.includes("`")) return true;
  const isText = (index: number) => code[index] === " " && line[index] !== " ";
  const width = [...line].filter((_, index) => !isText(index)).length;
  return width < line.length && code.replace(/ {2,}/g, " ").length <= CODE_COLUMNS;
}

function isWideComment(line: string, comment: string): boolean {
  const isTableRow = /^(?:\/\/|\*)\s*\|.*\|$/.test(comment);
  return !isTableRow && line.replace(URL, "").length > CODE_COLUMNS;
}

/** No line of Markdown is wider than 100 columns, but for tables, URLs and code blocks. */
export function wideMarkdown({ files }: Tree): Offence[] {
  return files.filter(({ path }) => path.endsWith(".md")).flatMap(wideLinesOf);
}

function wideLinesOf({ path, text }: SourceFile): Offence[] {
  let fence = "";
  return text.split("\n").flatMap((line, index) => {
    const mark = /^\s*(```+|~~~+)/.exec(line)?.[1] ?? "";
    const isFence = mark !== "" && (fence === "" || mark.startsWith(fence));
    if (isFence) fence = fence === "" ? mark : "";
    if (isFence || fence !== "" || /^\s*\|/.test(line)) return [];
    const withoutUrls = line.replace(/\]\([^)]*\)/g, "]").replace(URL, "");
    return withoutUrls.length > MARKDOWN_COLUMNS ? [offence(path, index, line, MARKDOWN_COLUMNS)] : [];
  });
}

function offence(path: string, index: number, line: string, columns: number): Offence {
  return { path, line: index + 1, advice: `${line.length} columns, ${columns} at most: break the line.` };
}
