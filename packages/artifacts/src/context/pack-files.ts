// Packs a context from files in memory.

import { FormationError } from "@formation-mcp/contract";
import { matchesNothing, normalizePath, pathProblem, quote } from "./path-names.ts";
import { type ContextEntry, writeTar } from "./write-tar.ts";

export interface ContextFile {
  content: Uint8Array;
  executable?: boolean;
}

/**
 * Packs the files that `include` names, by file or directory; `.` names all. The caller named each file, so
 * none is left out as a likely secret.
 * @throws FormationError `invalid`, before streaming starts: a malformed path, a path that is both a file and
 *   a directory, or an include path that matches nothing (field `include[i]`).
 */
export function packFiles(files: Record<string, ContextFile>, include: string[]): AsyncIterable<Uint8Array> {
  const known = new Map<string, ContextFile>();
  for (const [written, file] of Object.entries(files)) {
    const name = written.startsWith("./") ? normalizePath(written) : written;
    const objection = pathProblem(name);
    if (objection !== null || known.has(name)) {
      throw new FormationError("invalid", `The file ${quote(written)} ${objection ?? "is given twice"}.`, {
        field: `context_files[${quote(written)}]`,
        remedy: "Name it relative to the context, as in src/main.py.",
      });
    }
    known.set(name, file);
  }
  const taken = new Map<string, ContextFile | null>();
  include.forEach((written, index) => {
    const wanted = normalizePath(written);
    const found = [...known].filter(
      ([name]) => wanted === "" || name === wanted || name.startsWith(`${wanted}/`),
    );
    if (found.length === 0 && wanted !== "") throw matchesNothing(index, written, withParents(known.keys()));
    for (const [name, file] of found) taken.set(name, file);
  });
  for (const name of [...taken.keys()]) {
    for (const parent of parentsOf(name)) {
      if (known.has(parent)) {
        throw new FormationError(
          "invalid",
          `${quote(parent)} is given as a file, but ${quote(name)} lies in it.`,
          {
            field: `context_files[${quote(parent)}]`,
            remedy: "Rename one of them.",
          },
        );
      }
      taken.set(parent, null);
    }
  }
  return writeTar(sorted(taken));
}

function* sorted(taken: Map<string, ContextFile | null>): Iterable<ContextEntry> {
  for (const [name, file] of [...taken].sort(([a], [b]) => byBytes(a, b))) {
    if (file === null) yield { name, kind: "directory" };
    else {
      const { content, executable = false } = file;
      yield { name, kind: "file", bytes: content.byteLength, executable, content: () => [content] };
    }
  }
}

/** Sorts by bytes: the same order everywhere, with a directory before its entries. */
export function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

export function parentsOf(name: string): string[] {
  const parts = name.split("/");
  return parts.slice(1).map((_, index) => parts.slice(0, index + 1).join("/"));
}

function* withParents(names: Iterable<string>): Iterable<string> {
  for (const name of names) {
    yield name;
    yield* parentsOf(name);
  }
}
