// The rule that paths in pages lead somewhere: a file that moved is followed by the text that names it.

import { existsSync } from "node:fs";
import { join } from "node:path";
import { lineAt } from "./lexer.ts";
import type { Offence } from "./offence.ts";
import type { Tree } from "./tree.ts";

/**
 * A path of this repository in backticks. Of a path with a placeholder (`<p>`, `*`, `{a,b}`, `…`) only the
 * part before it counts.
 */
const PATH = /`((?:packages|apps|test|docs|bench|scripts|examples)\/[^`\s]*)`/g;
const PLACEHOLDER = /[<*{…$]/;

/** Paths that Markdown names exist. Decisions may name what is gone: they tell of an earlier time. */
export function paths({ files }: Tree, root: string): Offence[] {
  return files
    .filter(({ path }) => path.endsWith(".md") && !path.startsWith("docs/decisions/"))
    .flatMap((file) =>
      [...file.text.matchAll(PATH)].flatMap((match) => {
        const [whole = ""] = (match[1] ?? "").split(/[:#]/);
        const at = whole.search(PLACEHOLDER);
        const literal = at < 0 ? whole : whole.slice(0, whole.lastIndexOf("/", at));
        if (existsSync(join(root, literal))) return [];
        const advice = `\`${literal}\` is not there: name the place where it is now.`;
        return [{ path: file.path, line: lineAt(file.text, match.index), advice }];
      }),
    );
}
