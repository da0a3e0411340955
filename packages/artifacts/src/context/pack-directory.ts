// Packs a context from a directory of this machine, which other processes may change meanwhile. A walk
// decides which files are packed; each file is checked again once it is open, so that a link that is swapped
// in cannot lead outside.

import { closeSync, statSync } from "node:fs";
import { isAbsolute, relative, sep } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { withFormationErrors } from "../streams.ts";
import { cancelled, changed, contentOf, openInside, realpathOf } from "./open-files.ts";
import { byBytes } from "./pack-files.ts";
import { quote } from "./path-names.ts";
import { type Found, walk } from "./walk-directory.ts";
import { type ContextEntry, writeTar } from "./write-tar.ts";

export interface PackDirectoryOptions {
  dir: string;
  /** Files and directories below `dir`; `.` means all of it. */
  include: string[];
  /** The directories that callers may use. The real path of `dir` must be inside one of them. */
  allow: string[];
  /** The program's own directories: none may be packed, and they are skipped if `dir` contains them. */
  apart?: string[];
  /** The maximum bytes of all files together. */
  maxBytes: number;
  /** The maximum number of files, directories and links. */
  maxFiles: number;
  signal?: AbortSignal;
}

export interface PackedDirectory {
  /** The archive. The files are read while it is read. */
  stream: AsyncIterable<Uint8Array>;
  /** Paths left out because they look like secrets and `include` does not name them; at most 100. */
  left_out: string[];
  /** How many files and links the archive has. */
  files: number;
}

/**
 * Packs what `include` names of a directory. `.dockerignore` applies. `.git`, `.ssh`, `.gnupg`, `.aws`,
 * `.env*`, `*.pem` and `*.key` at any depth are left out unless `include` names that exact path. Links stay
 * links.
 * @throws FormationError `forbidden` outside `allow`, `invalid` for what cannot be packed (with the path and
 *   the remedy; field `include[i]` or `context_dir`), `limit`, `cancelled`; while streaming also `conflict`
 *   if a file changes.
 */
export async function packDirectory(options: PackDirectoryOptions): Promise<PackedDirectory> {
  const root = allowedRoot(options.dir, options.allow);
  const apart = (options.apart ?? []).flatMap((dir) => realpathOf(dir) ?? []);
  if (apart.some((dir) => holds(dir, root))) throw ownDirectory(options.dir);
  const { found, leftOut } = await withFormationErrors(
    () => walk(root, { ...options, apart }),
    "The context directory",
  );
  const entries = [...found.values()].sort((a, b) => byBytes(a.name, b.name));
  return {
    stream: writeTar(readContents(root, entries, options)),
    left_out: leftOut,
    files: entries.filter(({ kind }) => kind !== "directory").length,
  };
}

function allowedRoot(dir: string, allow: string[]): string {
  const root = realpathOf(dir);
  if (root === null || !statSync(root).isDirectory()) {
    throw new FormationError("invalid", `There is no directory ${quote(dir)} for the context.`, {
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
    `The context directory ${quote(dir)} is not in an allowed directory.`,
    {
      field: "context_dir",
      remedy:
        allow.length > 0
          ? `Use a directory in ${allow.map(quote).join(" or ")}, or ask the operator to allow this one with --allow-dir.`
          : "Ask the operator to allow it with --allow-dir, or send the files as context_files.",
    },
  );
}

/** Whether a directory is another or contains it. Both are real paths. */
function holds(directory: string, other: string): boolean {
  const way = relative(directory, other);
  return way === "" || !(way === ".." || way.startsWith(`..${sep}`) || isAbsolute(way));
}

function ownDirectory(dir: string): FormationError {
  return new FormationError("forbidden", `The context directory ${quote(dir)} is the program's own.`, {
    field: "context_dir",
    remedy: "Put what the build needs into a directory of its own.",
  });
}

async function* readContents(
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
