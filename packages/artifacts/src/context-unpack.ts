// What comes out of an archive that somebody else made: regular files, directories, and links that stay inside, made
// by us one by one below an empty directory. Links are made last, so that nothing can ever be written through one.

import { constants } from "node:fs";
import { chmod, lutimes, mkdir, open, readdir, realpath, symlink, utimes } from "node:fs/promises";
import { join } from "node:path";
import { FormationError } from "@formation-mcp/contract";
import { type Extract, extract, type Header as TarHeader } from "tar-stream";
import { parentsOf } from "./context-files.ts";
import { type LinkBudget, staysInside } from "./context-links.ts";
import { objectionTo, show } from "./context-names.ts";
import { drained } from "./context-tar.ts";
import { abortable, errnoOf, explain, explained, FileSink } from "./streams.ts";

export interface UnpackOptions {
  /** How much all files together may hold. */
  maxBytes: number;
  /** How many files, directories and links there may be. */
  maxFiles: number;
  signal?: AbortSignal;
}

type Made = { kind: "directory" | "file" } | { kind: "link"; target: string };
type Header = Omit<TarHeader, "pax" | "type"> & {
  type: TarHeader["type"] | null;
  pax?: Record<string, string> | null;
};
type Entry = Extract extends AsyncIterable<infer One> ? One : never;

/** All files are this old, so that the same context is the same to a layer cache; zip knows no time before 1980. */
const TIME = 315_619_200;
/** What an archive may hold beside its files' bytes: a header, padding and long names for each, and a start. */
const OVERHEAD_PER_FILE = 4096;
const OVERHEAD = 1024 * 1024;

/**
 * Unpacks a context into an existing empty directory; modes become 0644 or 0755, owner and times are not taken over.
 * If it fails, part of it may be there and nothing anywhere else: the caller removes the directory.
 * @throws FormationError `invalid` for an archive that is none or that a context cannot be, `limit`, `cancelled`,
 *   `unavailable` if there is no space; and the stream's own.
 */
export async function unpackContext(
  stream: AsyncIterable<Uint8Array>,
  dir: string,
  options: UnpackOptions,
): Promise<void> {
  const place = "The directory for the context";
  const root = await explained(() => realpath(dir), place);
  if ((await explained(() => readdir(root), place)).length > 0) {
    throw new FormationError("internal", "A context is only unpacked into an empty directory.");
  }
  const archive = extract();
  let failure: { error: unknown } | undefined;
  const fed = feed(archive, stream, options).catch((error: unknown) => {
    failure ??= { error };
    archive.destroy(error as Error);
  });
  try {
    const unpacking = new Unpacking(root, options);
    for await (const entry of archive) await unpacking.take(entry);
    await fed;
    if (failure) throw failure.error;
    await unpacking.finish();
  } catch (error) {
    throw understood(failure?.error ?? error);
  } finally {
    archive.destroy(null);
    await fed;
  }
}

async function feed(
  archive: Extract,
  stream: AsyncIterable<Uint8Array>,
  options: UnpackOptions,
): Promise<void> {
  let left = options.maxBytes + options.maxFiles * OVERHEAD_PER_FILE + OVERHEAD;
  for await (const chunk of abortable(stream, options.signal)) {
    left -= chunk.byteLength;
    if (left < 0) throw tooLarge(options.maxBytes);
    if (archive.destroyed) return;
    if (!archive.write(chunk)) await drained(archive);
  }
  archive.end(undefined);
}

class Unpacking {
  readonly #root: string;
  readonly #options: UnpackOptions;
  readonly #made = new Map<string, Made>();
  #bytes = 0;

  constructor(root: string, options: UnpackOptions) {
    this.#root = root;
    this.#options = options;
  }

  async take(entry: Entry): Promise<void> {
    const header = entry.header as Header;
    const written = header.name.replace(/^(\.\/)+/, "").replace(/\/+$/, "");
    if (written === "" || written === ".") {
      if (header.type !== "directory") throw invalid(header.name, "has no name");
      entry.resume();
      return;
    }
    this.#check(header, written);
    for (const parent of parentsOf(written)) await this.#directory(parent);
    if (header.type === "directory") await this.#directory(written);
    else if (this.#made.has(written)) throw invalid(written, "is there twice");
    else if (header.type === "symlink") this.#note(written, { kind: "link", target: header.linkname ?? "" });
    else {
      this.#note(written, { kind: "file" });
      await this.#file(entry, written, header);
      return;
    }
    entry.resume();
  }

  /** Makes the links, once all else is there. */
  async finish(): Promise<void> {
    const budget: LinkBudget = { steps: 2_000_000 };
    const readLink = (path: string) => {
      const made = this.#made.get(path);
      return made?.kind === "link" ? made.target : null;
    };
    const links = [...this.#made].flatMap(([name, made]) =>
      made.kind === "link" ? [{ name, ...made }] : [],
    );
    for (const { name, target } of links) {
      if (!(await staysInside(name, target, readLink, budget)))
        throw invalid(name, "is a link out of the context");
    }
    for (const { name, target } of links) {
      await symlink(target, join(this.#root, name));
      await lutimes(join(this.#root, name), TIME, TIME);
    }
    for (const [name, { kind }] of this.#made) {
      if (kind === "directory") await utimes(join(this.#root, name), TIME, TIME);
    }
  }

  #check(header: Header, name: string): void {
    const objection = objectionTo(name) ?? (header.linkname ? objectionToTarget(header.linkname) : null);
    if (objection !== null) throw invalid(name, objection);
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
    if (this.#bytes > this.#options.maxBytes) throw tooLarge(this.#options.maxBytes);
  }

  #note(name: string, made: Made): void {
    this.#made.set(name, made);
    if (this.#made.size <= this.#options.maxFiles) return;
    throw new FormationError("limit", `The context has more than ${this.#options.maxFiles} files.`, {
      remedy: "Include less.",
    });
  }

  async #directory(name: string): Promise<void> {
    const made = this.#made.get(name);
    if (made?.kind === "directory") return;
    if (made) throw invalid(name, `is a ${made.kind} and a directory`);
    this.#note(name, { kind: "directory" });
    await mkdir(join(this.#root, name));
    await chmod(join(this.#root, name), 0o755);
  }

  async #file(entry: Entry, name: string, header: Header): Promise<void> {
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
    const file = await open(join(this.#root, name), flags, 0o600);
    try {
      const sink = new FileSink(file);
      for await (const chunk of entry) await sink.write(chunk as Uint8Array);
      await sink.flush();
      await file.chmod(((header.mode ?? 0) & 0o111) === 0 ? 0o644 : 0o755);
      await file.utimes(TIME, TIME);
    } finally {
      await file.close();
    }
  }
}

function objectionToTarget(target: string): string | null {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what is looked for
  if (/[\u0000-\u001f\u007f-\u009f]/.test(target) || Buffer.byteLength(target) > 4095)
    return "is a link to no path";
  return null;
}

function invalid(name: string, what: string): FormationError {
  return new FormationError("invalid", `The context's archive cannot be used: ${show(name)} ${what}.`, {
    step: "context",
    remedy: "Pack the context with pack_build's context_files or context_dir, or upload it with the client.",
  });
}

function tooLarge(maxBytes: number): FormationError {
  return new FormationError("limit", `The context is larger than ${maxBytes} bytes.`, {
    step: "context",
    remedy: "Include less.",
  });
}

/** Errors without a code, or of a stream that ended early, are the tar reader's: the bytes are no archive. */
function understood(error: unknown): FormationError {
  const code = errnoOf(error);
  if (error instanceof FormationError || (code !== undefined && code !== "STREAM_DESTROYED")) {
    return explain(error, "The directory for the context");
  }
  return new FormationError("invalid", "The context's archive is damaged or is no tar archive.", {
    cause: error,
    step: "context",
    remedy: "Pack the context again.",
  });
}
