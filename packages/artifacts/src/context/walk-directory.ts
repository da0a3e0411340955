// Decides which files of a directory belong to a context: what `include` names, minus what .dockerignore and
// our list of likely secrets leave out. Only directories and .dockerignore are opened; links are never
// followed.

import { isUtf8 } from "node:buffer";
import { lstatSync, opendirSync, readlinkSync, type Stats } from "node:fs";
import { join, relative } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { FormationError } from "@formation-mcp/contract";
import { errnoOf } from "../streams.ts";
import { type IgnoreRules, readIgnoreRules } from "./dockerignore.ts";
import { type LinkBudget, staysInside } from "./links.ts";
import { cancelled, changed, unreadable } from "./open-files.ts";
import { parentsOf } from "./pack-files.ts";
import { looksSecret, matchesNothing, normalizePath, pathProblem, quote } from "./path-names.ts";

export type Found =
  | { name: string; kind: "directory" }
  | { name: string; kind: "link"; target: string }
  | { name: string; kind: "file"; executable: boolean };

export interface WalkOptions {
  include: string[];
  /** Real paths of directories to skip. */
  apart?: string[];
  maxBytes: number;
  maxFiles: number;
  signal?: AbortSignal;
}

const MAX_LEFT_OUT_PATHS = 100;
/** How many entries may be visited for each that may be included. */
const MAX_VISITS_PER_FILE = 10;

export async function walk(
  root: string,
  options: WalkOptions,
): Promise<{ found: Map<string, Found>; leftOut: string[] }> {
  const walker = new Walker(root, options, await readIgnoreRules(root));
  for (const [index, path] of options.include.entries()) await walker.include(index, path);
  await walker.checkLinks();
  return { found: walker.found, leftOut: [...walker.leftOut] };
}

class Walker {
  readonly found = new Map<string, Found>();
  readonly leftOut = new Set<string>();
  readonly #root: string;
  readonly #options: WalkOptions;
  readonly #rules: IgnoreRules;
  readonly #named: Set<string>;
  readonly #apart: Set<string>;
  #bytes = 0;
  #looked = 0;
  #largest = { name: "", bytes: 0 };

  constructor(root: string, options: WalkOptions, rules: IgnoreRules) {
    this.#root = root;
    this.#options = options;
    this.#rules = rules;
    this.#named = new Set(options.include.map(normalizePath));
    this.#apart = new Set((options.apart ?? []).map((dir) => relative(root, dir)));
  }

  async include(index: number, written: string): Promise<void> {
    const path = normalizePath(written);
    if (path !== "") {
      const objection = pathProblem(path);
      if (objection !== null) throw refused(index, `include names ${quote(written)}, which ${objection}.`);
      for (const parent of parentsOf(path)) this.#passThrough(index, written, parent);
      if ([path, ...parentsOf(path)].some((at) => this.#apart.has(at))) {
        throw refused(index, `include names ${quote(written)}, which is the program's own.`);
      }
      const stats = this.#stat(path);
      if (!stats) throw matchesNothing(index, written, this.#near(path));
      if (this.#rules.ignores(path) && !(stats.isDirectory() && this.#rules.hasExceptions)) {
        throw refused(
          index,
          `include names ${quote(written)}, which .dockerignore leaves out.`,
          "Take it out of .dockerignore, or out of include.",
        );
      }
      this.#take(path, stats);
      if (!stats.isDirectory()) return;
    }
    await this.#below(path);
  }

  async checkLinks(): Promise<void> {
    const budget: LinkBudget = { steps: 2_000_000 };
    for (const entry of this.found.values()) {
      if (entry.kind !== "link") continue;
      if (await staysInside(entry.name, entry.target, (path) => this.#readLink(path), budget)) continue;
      throw new FormationError(
        "invalid",
        `The link ${quote(entry.name)} leads out of the context, to ${quote(entry.target)}.`,
        {
          field: "context_dir",
          remedy: `Put the file itself in its place, make it a relative link within the context, or list ${quote(entry.name)} in .dockerignore.`,
        },
      );
    }
  }

  /** Checks a parent directory of an included path. It must not be a link, which would lead elsewhere. */
  #passThrough(index: number, written: string, parent: string): void {
    const stats = this.#stat(parent);
    if (!stats) throw matchesNothing(index, written, this.#near(parent));
    if (stats.isSymbolicLink()) {
      throw refused(
        index,
        `include names ${quote(written)}, which goes through the link ${quote(parent)}.`,
        `Name the real path: ${quote(parent)} leads to ${quote(this.#readLink(parent) ?? "another place")}.`,
      );
    }
    if (!stats.isDirectory()) {
      throw refused(index, `include names ${quote(written)}, but ${quote(parent)} is a file.`);
    }
  }

  async #below(start: string): Promise<void> {
    const ahead = [start];
    for (let directory = ahead.pop(); directory !== undefined; directory = ahead.pop()) {
      await turn();
      if (this.#options.signal?.aborted) throw cancelled();
      for (const name of this.#list(directory)) {
        const path = directory === "" ? name : `${directory}/${name}`;
        if (this.#apart.has(path) || (looksSecret(name) && !this.#named.has(path))) {
          if (this.leftOut.size < MAX_LEFT_OUT_PATHS) this.leftOut.add(path);
          continue;
        }
        const stats = this.#stat(path);
        if (!stats) continue; // removed after it was listed
        const ignored = this.#rules.ignores(path);
        if (!ignored) this.#take(path, stats);
        if (stats.isDirectory() && (!ignored || this.#rules.hasExceptions)) ahead.push(path);
      }
    }
  }

  #take(path: string, stats: Stats): void {
    if (this.found.has(path)) return;
    const objection = pathProblem(path);
    if (objection !== null) throw unusable(path, `has a name that ${objection}`);
    for (const parent of parentsOf(path)) {
      if (!this.found.has(parent)) this.#add({ name: parent, kind: "directory" });
    }
    if (stats.isDirectory()) this.#add({ name: path, kind: "directory" });
    else if (stats.isSymbolicLink()) {
      const target = this.#readLink(path);
      if (target === null) throw changed(path);
      this.#add({ name: path, kind: "link", target });
    } else if (stats.isFile()) {
      this.#add({ name: path, kind: "file", executable: (stats.mode & 0o111) !== 0 });
      this.#weigh(path, stats.size);
    } else throw unusable(path, "is a socket, a pipe or a device");
  }

  #add(entry: Found): void {
    this.found.set(entry.name, entry);
    if (this.found.size > this.#options.maxFiles) {
      throw new FormationError("limit", `The context has more than ${this.#options.maxFiles} files.`, {
        field: "context_dir",
        remedy: `Name less under include, or list what is not needed in .dockerignore (it got to ${quote(entry.name)}).`,
      });
    }
  }

  #weigh(name: string, bytes: number): void {
    this.#bytes += bytes;
    if (bytes > this.#largest.bytes) this.#largest = { name, bytes };
    if (this.#bytes <= this.#options.maxBytes) return;
    throw new FormationError("limit", `The context is larger than ${this.#options.maxBytes} bytes.`, {
      field: "context_dir",
      remedy: `Name less under include, or list what is not needed in .dockerignore. The largest file so far is ${quote(this.#largest.name)} with ${this.#largest.bytes} bytes.`,
    });
  }

  #stat(path: string): Stats | null {
    try {
      return lstatSync(join(this.#root, path));
    } catch (error) {
      const code = errnoOf(error);
      if (code === "ENOENT" || code === "ENOTDIR") return null;
      throw code === "EACCES" ? unreadable(path, error) : error;
    }
  }

  #readLink(path: string): string | null {
    try {
      return readlinkSync(join(this.#root, path));
    } catch {
      return null; // no link, or missing
    }
  }

  #list(directory: string): string[] {
    const names: string[] = [];
    try {
      const listing = opendirSync(join(this.#root, directory), { encoding: "buffer" as BufferEncoding });
      try {
        for (let entry = listing.readSync(); entry !== null; entry = listing.readSync()) {
          const name = entry.name as unknown as Buffer;
          if (!isUtf8(name))
            throw unusable(`${directory}/${name.toString("latin1")}`, "has a name that is not UTF-8");
          names.push(name.toString("utf8"));
          if (++this.#looked > this.#options.maxFiles * MAX_VISITS_PER_FILE) throw this.#tooMany(directory);
        }
      } finally {
        listing.closeSync();
      }
    } catch (error) {
      if (error instanceof FormationError) throw error;
      throw errnoOf(error) === "EACCES" ? unreadable(directory, error) : changed(directory, error);
    }
    return names;
  }

  #tooMany(directory: string): FormationError {
    return new FormationError("limit", "The context directory has too many files to look through.", {
      field: "context_dir",
      remedy: `Name less under include, or list ${quote(directory)} in .dockerignore.`,
    });
  }

  /** The entries beside a path that does not exist. */
  #near(path: string): string[] {
    const parent = parentsOf(path).findLast((candidate) => this.#stat(candidate)?.isDirectory()) ?? "";
    try {
      return this.#list(parent).map((name) => (parent === "" ? name : `${parent}/${name}`));
    } catch {
      return [];
    }
  }
}

function refused(
  index: number,
  message: string,
  remedy = "Name a file or directory below the context directory.",
): FormationError {
  return new FormationError("invalid", message, { field: `include[${index}]`, remedy });
}

function unusable(path: string, what: string): FormationError {
  return new FormationError("invalid", `${quote(path)} ${what}, which a context cannot hold.`, {
    field: "context_dir",
    remedy: "Remove it, list it in .dockerignore, or name less under include.",
  });
}
