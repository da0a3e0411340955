// A context from a directory of this machine, which others may change while we read it. What is taken is decided by a
// walk; what is read is checked again on the open file, so that no link swapped in meanwhile leads us out.

import { closeSync, statSync } from "node:fs";
import { isAbsolute, relative, sep } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { explained } from "../streams.ts";
import { byBytes } from "./files.ts";
import { show } from "./names.ts";
import { cancelled, changed, contentOf, openInside, realpathOf } from "./open.ts";
import { type ContextEntry, writeTar } from "./tar.ts";
import { type Found, walk } from "./walk.ts";

export interface PackDirectoryOptions {
  dir: string;
  /** Files and directories below `dir`; `.` is all of it. */
  include: string[];
  /** The directories that callers may use; `dir` must really lie in one of them. */
  allow: string[];
  /** Directories of the program's own: none may be packed, and none comes along with what holds it. */
  apart?: string[];
  /** How much all files together may hold. */
  maxBytes: number;
  /** How many files, directories and links there may be. */
  maxFiles: number;
  signal?: AbortSignal;
}

export interface PackedDirectory {
  /** The archive; files are read while it is. */
  stream: AsyncIterable<Uint8Array>;
  /** What was left out because it looks like a secret and `include` does not name it; at most 100 paths. */
  left_out: string[];
  /** How many files and links are in it. */
  files: number;
}

/**
 * Packs what `include` names of a directory. `.dockerignore` is honoured; `.git`, `.ssh`, `.gnupg`, `.aws`, `.env*`,
 * `*.pem` and `*.key` at any depth are left out unless `include` names that very path; links are kept as links.
 * @throws FormationError `forbidden` outside of `allow`, `invalid` for what cannot be packed (with the path and the
 *   remedy; field `include[i]` or `context_dir`), `limit`, `cancelled`; while streaming also `conflict` if a file changes.
 */
export async function packDirectory(options: PackDirectoryOptions): Promise<PackedDirectory> {
  const root = allowedRoot(options.dir, options.allow);
  const apart = (options.apart ?? []).flatMap((dir) => realpathOf(dir) ?? []);
  if (apart.some((dir) => holds(dir, root))) throw ownDirectory(options.dir);
  const { found, leftOut } = await explained(
    () => walk(root, { ...options, apart }),
    "The context directory",
  );
  const entries = [...found.values()].sort((a, b) => byBytes(a.name, b.name));
  return {
    stream: writeTar(read(root, entries, options)),
    left_out: leftOut,
    files: entries.filter(({ kind }) => kind !== "directory").length,
  };
}

function allowedRoot(dir: string, allow: string[]): string {
  const root = realpathOf(dir);
  if (root === null || !statSync(root).isDirectory()) {
    throw new FormationError("invalid", `There is no directory ${show(dir)} for the context.`, {
      field: "context_dir",
      remedy: "Give the path of a directory on the machine where the server runs.",
    });
  }
  for (const allowed of allow) {
    const real = realpathOf(allowed);
    if (real === null) continue;
    if (holds(real, root)) return root;
  }
  throw new FormationError(
    "forbidden",
    `The context directory ${show(dir)} is not in an allowed directory.`,
    {
      field: "context_dir",
      remedy:
        allow.length > 0
          ? `Use a directory in ${allow.map(show).join(" or ")}, or ask the operator to allow this one with --allow-dir.`
          : "Ask the operator to allow it with --allow-dir, or send the files as context_files.",
    },
  );
}

/** Whether a directory is another, or above it. Both are real paths. */
function holds(directory: string, other: string): boolean {
  const way = relative(directory, other);
  return way === "" || !(way === ".." || way.startsWith(`..${sep}`) || isAbsolute(way));
}

function ownDirectory(dir: string): FormationError {
  return new FormationError("forbidden", `The context directory ${show(dir)} is the program's own.`, {
    field: "context_dir",
    remedy: "Put what the build needs into a directory of its own.",
  });
}

async function* read(
  root: string,
  entries: Found[],
  options: PackDirectoryOptions,
): AsyncIterable<ContextEntry> {
  let left = options.maxBytes;
  for (const entry of entries) {
    if (options.signal?.aborted) throw cancelled();
    if (entry.kind === "directory") yield { name: entry.name, kind: "directory" };
    else if (entry.kind === "link") yield { name: entry.name, kind: "link", target: entry.target };
    else {
      const file = openInside(root, entry.name);
      try {
        const bytes = Number(file.stat.size);
        left -= bytes;
        if (left < 0) throw changed(entry.name);
        const content = () => contentOf(file.descriptor, entry.name, bytes, options.signal);
        yield { name: entry.name, kind: "file", bytes, executable: entry.executable, content };
      } finally {
        closeSync(file.descriptor);
      }
    }
  }
}
