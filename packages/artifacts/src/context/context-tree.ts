// Decides what an untrusted archive may contain: files, directories, and links that stay inside, each path
// once. For each entry it returns what to make; nothing else is made.

import { hasControls } from "@formation-mcp/base";
import { FormationError } from "@formation-mcp/contract";
import type { Extract, Header as TarHeader } from "tar-stream";
import { errnoOf, toFormationError } from "../streams.ts";
import { type LinkBudget, staysInside } from "./links.ts";
import { parentsOf } from "./pack-files.ts";
import { pathProblem, quote } from "./path-names.ts";

export interface ContextLimits {
  /** The maximum bytes of all files together. */
  maxBytes: number;
  /** The maximum number of files, directories and links. */
  maxFiles: number;
}

export type TarEntry = Extract extends AsyncIterable<infer One> ? One : never;
type Header = Omit<TarHeader, "pax" | "type"> & {
  type: TarHeader["type"] | null;
  pax?: Record<string, string> | null;
};

/** A directory, file or link to make. */
export type PlannedEntry =
  | { kind: "directory"; name: string }
  | { kind: "link"; name: string; target: string }
  | { kind: "file"; name: string; bytes: number; executable: boolean };

/**
 * The bytes that an archive may have besides its files: a header, padding and long names for each, and a
 * constant.
 */
const OVERHEAD_BYTES_PER_FILE = 4096;
const ARCHIVE_OVERHEAD_BYTES = 1024 * 1024;

/** The maximum bytes of an archive within the limits. */
export function archiveBytes({ maxBytes, maxFiles }: ContextLimits): number {
  return maxBytes + maxFiles * OVERHEAD_BYTES_PER_FILE + ARCHIVE_OVERHEAD_BYTES;
}

export class ContextTree {
  readonly #limits: ContextLimits;
  readonly #made = new Map<string, PlannedEntry>();
  #bytes = 0;

  constructor(limits: ContextLimits) {
    this.#limits = limits;
  }

  /** The bytes of its files together, by their headers. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Every entry, in the order in which it came. */
  get planned(): Iterable<PlannedEntry> {
    return this.#made.values();
  }

  /**
   * What to make for an entry, its parent directories first; nothing for the context itself.
   * @throws FormationError `invalid`, `limit`
   */
  plan(given: TarEntry["header"]): PlannedEntry[] {
    const header = given as Header;
    const name = header.name.replace(/^(\.\/)+/, "").replace(/\/+$/, "");
    if (name === "" || name === ".") {
      if (header.type !== "directory") throw invalid(header.name, "has no name");
      return [];
    }
    this.#check(header, name);
    const making = parentsOf(name).flatMap((parent) => this.#directory(parent));
    if (header.type === "directory") return [...making, ...this.#directory(name)];
    if (this.#made.has(name)) throw invalid(name, "is there twice");
    if (header.type === "symlink") {
      return [...making, this.#note({ kind: "link", name, target: header.linkname ?? "" })];
    }
    const executable = ((header.mode ?? 0) & 0o111) !== 0;
    return [...making, this.#note({ kind: "file", name, bytes: header.size ?? 0, executable })];
  }

  /**
   * Checks, after the last entry, that every link stays inside.
   * @throws FormationError `invalid`
   */
  async finish(): Promise<void> {
    const budget: LinkBudget = { steps: 2_000_000 };
    const readLink = (path: string) => {
      const made = this.#made.get(path);
      return made?.kind === "link" ? made.target : null;
    };
    for (const made of this.#made.values()) {
      if (made.kind !== "link") continue;
      if (await staysInside(made.name, made.target, readLink, budget)) continue;
      throw invalid(made.name, "is a link out of the context");
    }
  }

  #check(header: Header, name: string): void {
    const objection = pathProblem(name) ?? (header.linkname ? linkTargetProblem(header.linkname) : null);
    if (objection !== null) throw invalid(name, objection);
    // The reader replaces bytes that are not UTF-8 by this character, so two names could become one.
    if (name.includes("\ufffd")) throw invalid(name, "has a name that is not UTF-8");
    if (
      header.pax &&
      ("size" in header.pax || Object.keys(header.pax).some((key) => key.startsWith("GNU.")))
    ) {
      throw invalid(name, "is stored in a way that contexts do not use");
    }
    if (header.type !== "file" && header.type !== "directory" && header.type !== "symlink") {
      throw invalid(name, `is a ${header.type ?? "thing of unknown kind"}`);
    }
    const bytes = header.size ?? 0;
    if (header.type !== "file" && bytes !== 0) throw invalid(name, "holds bytes but is no file");
    if (!Number.isSafeInteger(bytes) || bytes < 0) throw invalid(name, "has no size");
    this.#bytes += bytes;
    if (this.#bytes > this.#limits.maxBytes) throw contextTooLarge(this.#limits.maxBytes);
  }

  #directory(name: string): PlannedEntry[] {
    const made = this.#made.get(name);
    if (made?.kind === "directory") return [];
    if (made) throw invalid(name, `is a ${made.kind} and a directory`);
    return [this.#note({ kind: "directory", name })];
  }

  #note(making: PlannedEntry): PlannedEntry {
    this.#made.set(making.name, making);
    if (this.#made.size <= this.#limits.maxFiles) return making;
    throw new FormationError("limit", `The context has more than ${this.#limits.maxFiles} files.`, {
      remedy: "Include less.",
    });
  }
}

function linkTargetProblem(target: string): string | null {
  if (hasControls(target) || Buffer.byteLength(target) > 4095) return "is a link to no path";
  return null;
}

function invalid(name: string, what: string): FormationError {
  return new FormationError("invalid", `The context's archive cannot be used: ${quote(name)} ${what}.`, {
    step: "context",
    remedy: "Pack the context with pack_build's context_files or context_dir, or upload it with the client.",
  });
}

export function contextTooLarge(maxBytes: number): FormationError {
  return new FormationError("limit", `The context is larger than ${maxBytes} bytes.`, {
    step: "context",
    remedy: "Include less.",
  });
}

/** The error for bytes that are no complete archive. */
export function damagedArchive(what: string, cause?: unknown): FormationError {
  return new FormationError("invalid", `The context's archive ${what}.`, {
    cause,
    step: "context",
    remedy: "Pack the context again.",
  });
}

/** Errors without a code, or of a stream that ended early, are the tar reader's: the bytes are no archive. */
export function toArchiveError(error: unknown): FormationError {
  const code = errnoOf(error);
  if (error instanceof FormationError || (code !== undefined && code !== "STREAM_DESTROYED")) {
    return toFormationError(error, "The directory for the context");
  }
  return damagedArchive("is damaged or is no tar archive", error);
}
