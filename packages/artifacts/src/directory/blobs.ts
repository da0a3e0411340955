// Blobs in a directory, named by the SHA-256 of their bytes. A blob appears by renaming a complete and synced
// file, and every read checks the hash again.

import { createHash, type Hash, randomBytes } from "node:crypto";
import { createReadStream, type Stats, statSync } from "node:fs";
import { link, mkdir, open, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import { identify, isAlive, syncDirectory } from "@formation-mcp/os";
import type { BlobInfo, Digest } from "../port.ts";
import { abortable, errnoOf, FileSink, toFormationError } from "../streams.ts";

const STALE_FILE_MS = 3_600_000;
const DAMAGED_KEPT_MS = 7 * 86_400_000;
const DIGEST = /^sha256:([0-9a-f]{64})$/;
const HEX = /^[0-9a-f]{64}$/;

export class Blobs {
  readonly #root: string;
  readonly #temporary: string;
  readonly #damaged: string;
  readonly #clock: Clock;
  readonly #logger: Logger;

  constructor(path: string, clock: Clock, logger: Logger) {
    this.#root = join(path, "sha256");
    this.#temporary = join(path, "tmp");
    this.#damaged = join(path, "damaged");
    this.#clock = clock;
    this.#logger = logger;
  }

  async open(): Promise<void> {
    for (const path of [this.#root, this.#temporary, this.#damaged]) {
      await mkdir(path, { recursive: true, mode: 0o700 });
    }
    await this.#removeStale();
  }

  async put(
    content: AsyncIterable<Uint8Array>,
    options: { maxBytes: number; expected?: Digest; signal?: AbortSignal },
  ): Promise<BlobInfo> {
    if (options.expected !== undefined) hexOf(options.expected);
    const temporary = join(this.#temporary, temporaryName());
    try {
      const info = await this.#receive(temporary, content, options);
      const target = this.#pathOf(hexOf(info.digest));
      await mkdir(join(target, ".."), { recursive: true, mode: 0o700 });
      // Also replaces an existing blob: that repairs a damaged one, and refreshes its age for collect().
      await rename(temporary, target);
      syncDirectory(join(target, ".."));
      return info;
    } catch (error) {
      await rm(temporary, { force: true });
      throw error;
    }
  }

  async get(digest: Digest): Promise<AsyncIterable<Uint8Array>> {
    const hex = hexOf(digest);
    if ((await this.stat(digest)) === null) throw notFound(digest);
    return this.#read(hex, digest);
  }

  async stat(digest: Digest): Promise<BlobInfo | null> {
    try {
      const found = await stat(this.#pathOf(hexOf(digest)));
      return { digest, bytes: found.size };
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return null;
      throw error;
    }
  }

  async collect(roots: AsyncIterable<string> | Iterable<string>, olderThanMs: number): Promise<number> {
    const kept = new Set<string>();
    for await (const root of roots) kept.add(root);
    const before = this.#clock.now() - olderThanMs;
    let bytes = 0;
    for await (const digest of this.digests()) {
      if (!kept.has(digest)) bytes += await this.discard(digest, before);
    }
    await this.#removeStale();
    return bytes;
  }

  async *digests(): AsyncIterable<Digest> {
    for (const shelf of await readdir(this.#root)) {
      for (const hex of await readdir(join(this.#root, shelf))) if (HEX.test(hex)) yield `sha256:${hex}`;
    }
  }

  /** When a blob was put or touched, in milliseconds since the epoch; null if it is missing. */
  async touchedAt(digest: Digest): Promise<number | null> {
    const found = await stat(this.#pathOf(hexOf(digest))).catch(() => null);
    return found && Math.round(found.mtimeMs);
  }

  /** Refreshes a blob's age, if it exists. */
  async touch(digest: Digest): Promise<void> {
    const now = this.#clock.now() / 1000;
    await utimes(this.#pathOf(hexOf(digest)), now, now).catch(() => {});
  }

  async #receive(
    temporary: string,
    content: AsyncIterable<Uint8Array>,
    options: { maxBytes: number; expected?: Digest; signal?: AbortSignal },
  ): Promise<BlobInfo> {
    const hash = createHash("sha256");
    let bytes = 0;
    const file = await open(temporary, "wx", 0o600);
    try {
      const sink = new FileSink(file);
      for await (const chunk of abortable(content, options.signal)) {
        bytes += chunk.byteLength;
        if (bytes > options.maxBytes) {
          throw new FormationError("limit", `The content is larger than ${options.maxBytes} bytes.`, {
            remedy: "Include less: name single files, or list what is not needed in .dockerignore.",
          });
        }
        hash.update(chunk);
        await sink.write(chunk);
      }
      await sink.flush();
      const digest = digestOf(hash);
      if (options.expected !== undefined && options.expected !== digest) {
        throw new FormationError("invalid", `The content is ${digest}, not ${options.expected}.`, {
          remedy: "Send it again; if this happens again, it is changed on its way.",
        });
      }
      const now = this.#clock.now() / 1000;
      await file.utimes(now, now);
      await file.sync();
      return { digest, bytes };
    } finally {
      await file.close();
    }
  }

  async *#read(hex: string, digest: Digest): AsyncIterable<Uint8Array> {
    const hash = createHash("sha256");
    try {
      for await (const chunk of createReadStream(this.#pathOf(hex), { highWaterMark: 256 * 1024 })) {
        hash.update(chunk as Uint8Array);
        yield chunk as Uint8Array;
      }
    } catch (error) {
      throw errnoOf(error) === "ENOENT" ? notFound(digest) : toFormationError(error);
    }
    if (hash.digest("hex") === hex) return;
    await rename(this.#pathOf(hex), join(this.#damaged, `${hex}.${randomBytes(4).toString("hex")}`)).catch(
      () => {},
    );
    this.#logger.log("error", "A blob is damaged and was set aside.", { digest });
    throw damagedBlob(digest);
  }

  /**
   * Removes one blob if it is old, and returns its bytes. It is moved aside first, because a put may refresh
   * it at the same time.
   */
  async discard(digest: Digest, before: number): Promise<number> {
    const path = this.#pathOf(hexOf(digest));
    const aside = join(this.#temporary, temporaryName());
    try {
      if (isYoung(await stat(path), before)) return 0;
      await rename(path, aside);
      const moved = await stat(aside);
      if (isYoung(moved, before)) {
        await link(aside, path).catch((error) => {
          if (errnoOf(error) !== "EEXIST") throw error;
        });
        await rm(aside);
        return 0;
      }
      await rm(aside);
      return moved.size;
    } catch (error) {
      if (errnoOf(error) === "ENOENT") return 0;
      throw error;
    }
  }

  async #removeStale(): Promise<void> {
    for (const name of await readdir(this.#temporary)) {
      const path = join(this.#temporary, name);
      const [pid = "", ticks = ""] = name.split(".");
      const found = statSync(path, { throwIfNoEntry: false });
      // Uses real time, not the injected clock, because it compares times of the file system.
      const old = found !== undefined && Date.now() - Math.max(found.mtimeMs, found.ctimeMs) > STALE_FILE_MS;
      if (old || !isAlive({ pid: Number(pid), start_ticks: ticks })) await rm(path, { force: true });
    }
    for (const name of await readdir(this.#damaged)) {
      const path = join(this.#damaged, name);
      const found = statSync(path, { throwIfNoEntry: false });
      if (found && Date.now() - found.ctimeMs > DAMAGED_KEPT_MS) await rm(path, { force: true });
    }
  }

  #pathOf(hex: string): string {
    return join(this.#root, hex.slice(0, 2), hex);
  }
}

/**
 * A name for a temporary file that contains the process's identity, so that files of dead processes can be
 * found.
 */
function temporaryName(): string {
  const ticks = identify(process.pid)?.start_ticks ?? "";
  return `${process.pid}.${ticks}.${randomBytes(9).toString("hex")}`;
}

/**
 * Whether a blob was put after that time. File systems keep times at another precision, hence the rounding.
 */
function isYoung(blob: Stats, before: number): boolean {
  return Math.round(blob.mtimeMs) > before;
}

export function digestOf(hash: Hash): Digest {
  return `sha256:${hash.digest("hex")}`;
}

export function isDigest(text: string): text is Digest {
  return DIGEST.test(text);
}

/** @throws FormationError `invalid` */
export function hexOf(digest: string): string {
  const hex = DIGEST.exec(digest)?.[1];
  if (hex !== undefined) return hex;
  throw new FormationError("invalid", "A digest is `sha256:` and 64 hexadecimal digits.");
}

export function damagedBlob(digest: Digest): FormationError {
  return new FormationError("internal", `The stored content ${digest} is damaged.`, {
    remedy: "It was set aside. Store it again: build anew, or upload the context again.",
  });
}

export function notFound(digest: Digest): FormationError {
  return new FormationError("not_found", `There is no stored content ${digest}.`, {
    remedy: "It may have been removed as unused: build anew, or upload the context again.",
  });
}
