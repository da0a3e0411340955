// Files that are given inside the call. Every path, size and encoding is checked, and one error lists all
// problems.

import { FormationError, LIMITS } from "@formation-mcp/contract";
import { parseFormfile } from "@formation-mcp/formfile";
import { fieldPath, type Problem, throwProblems } from "../input.ts";

type InlineFile = string | { base64: string };

export interface InlineFiles {
  /** The contents of the included files, by path. */
  contents: Map<string, Uint8Array>;
  /** Paths that were given but are not included. */
  leftOut: string[];
}

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}(?:==)?|[A-Za-z0-9+/]{3}=?)?$/;

/**
 * Decodes and checks inline files.
 * @throws FormationError `invalid` with every problem; `limit` if they are larger than an inline context may
 *   be.
 */
export function readInlineFiles(
  given: Readonly<Record<string, InlineFile>>,
  include: readonly string[],
): InlineFiles {
  const problems: Problem[] = [];
  const contents = new Map<string, Uint8Array>();
  const leftOut: string[] = [];
  const seen = new Set<string>();
  let bytes = 0;
  const names = Object.keys(given);
  const wrong = pathProblems(names);
  names.forEach((name, index) => {
    const field = fieldPath(["context_files", name]);
    const problem = wrong.get(index);
    const path = normalizePath(name);
    if (problem !== undefined) problems.push({ field, problem });
    else if (path === "") problems.push({ field, problem: "names a directory; give a file's path." });
    else if (seen.has(path)) problems.push({ field, problem: `is the same path as another: ${path}.` });
    else {
      seen.add(path);
      const content = decode(given[name] ?? "");
      if (content === null) problems.push({ field, problem: "its base64 is not valid (RFC 4648)." });
      else {
        bytes += content.byteLength;
        if (include.some((pattern) => covers(pattern, path))) contents.set(path, content);
        else leftOut.push(path);
      }
    }
  });
  for (const path of seen) {
    const parent = parentDirectories(path).find((above) => seen.has(above));
    if (parent !== undefined)
      problems.push({
        field: fieldPath(["context_files", path]),
        problem: `${parent} is a file and can't hold it.`,
      });
  }
  throwProblems(problems, "Correct the paths and contents and call pack_build again.");
  if (bytes > LIMITS.inlineContextBytes) {
    throw new FormationError(
      "limit",
      `context_files hold ${bytes} bytes; at most ${LIMITS.inlineContextBytes} can be sent inside a call.`,
      {
        field: "context_files",
        remedy:
          "Leave large files out and fetch them in a run line, or use context_dir over stdio, or an uploaded context over HTTP.",
      },
    );
  }
  requireIncluded(include, contents);
  return { contents, leftOut };
}

function requireIncluded(include: readonly string[], contents: ReadonlyMap<string, Uint8Array>): void {
  const paths = [...contents.keys()];
  const missing = include.flatMap((pattern, index) =>
    paths.some((path) => covers(pattern, path)) ? [] : [{ index, pattern }],
  );
  throwProblems(
    missing.map(({ index, pattern }) => ({
      field: `formfile.include[${index}]`,
      problem: `${JSON.stringify(pattern)} is not among context_files.`,
    })),
    "Add the file to context_files under exactly that path, or take it out of include.",
  );
}

/** The parser of formfiles reports every issue of this many paths in one go. */
const PATHS_PER_PARSE = 100;

/**
 * Checks paths with the parser of formfiles, so that included paths and files have the same rules and error
 * texts. Returns the problem of each wrong path by its index.
 */
function pathProblems(names: readonly string[]): Map<number, string> {
  const found = new Map<number, string>();
  for (let from = 0; from < names.length; from += PATHS_PER_PARSE) {
    const include = names.slice(from, from + PATHS_PER_PARSE);
    const parsed = parseFormfile({ from: "scratch", name: "paths", entrypoint: ["/paths"], include });
    if (parsed.ok) continue;
    for (const { path, problem, remedy } of parsed.issues) {
      const index = /^include\[(\d+)\]/.exec(path)?.[1];
      // The caller reports paths that are equal after normalization.
      if (index !== undefined && !problem.includes(" repeats include["))
        found.set(from + Number(index), `${problem.replace(/^include\[\d+\] /, "")} ${remedy}`);
    }
  }
  return found;
}

export function normalizePath(path: string): string {
  return path
    .split("/")
    .filter((part) => part !== "" && part !== ".")
    .join("/");
}

/** Whether an include pattern covers a file: it names the file, a directory above it, or everything (`.`). */
export function covers(include: string, path: string): boolean {
  return include === "." || include === path || path.startsWith(`${include}/`);
}

/** The directories above a path. */
export function parentDirectories(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}

function decode(file: InlineFile): Uint8Array | null {
  if (typeof file === "string") return Buffer.from(file, "utf8");
  const text = file.base64.replace(/[\r\n]/g, "");
  return BASE64.test(text) ? Buffer.from(text, "base64") : null;
}
