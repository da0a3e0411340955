// A node's verified copies of blobs that are stored elsewhere, in a directory of limited size. The least
// recently read are removed first. This folder knows how blobs and logs are stored in files.

import { statfs } from "node:fs/promises";
import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import type { BlobInfo, Digest } from "../port.ts";
import { Blobs } from "./blobs.ts";

/** Bytes of the file system that stay free when a blob is fetched. */
const RESERVE_BYTES = 256 * 1024 * 1024;

export class BlobCache {
  readonly #blobs: Blobs;
  readonly #path: string;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(path: string, maxBytes: number, clock: Clock, logger: Logger) {
    this.#blobs = new Blobs(path, clock, logger);
    this.#path = path;
    this.#maxBytes = maxBytes;
  }

  async open(): Promise<void> {
    await this.#blobs.open();
    await this.#trim();
  }

  /** @throws FormationError as `Artifacts.put` does. */
  async put(content: AsyncIterable<Uint8Array>, options: Parameters<Blobs["put"]>[1]): Promise<BlobInfo> {
    const info = await this.#blobs.put(content, options);
    this.#bytes += info.bytes;
    if (this.#bytes > this.#maxBytes) await this.#trim(info.digest);
    return info;
  }

  /** @throws FormationError `unavailable` if this many bytes do not fit on the disk. */
  async requireRoom(bytes: number): Promise<void> {
    const { bavail, bsize } = await statfs(this.#path);
    if (bavail * bsize - bytes > RESERVE_BYTES) return;
    throw new FormationError("unavailable", "The artifacts' cache has no room on its disk.", {
      remedy: "Free disk space on this node, and try again.",
    });
  }

  async info(digest: Digest): Promise<BlobInfo | null> {
    return await this.#blobs.stat(digest);
  }

  /**
   * @throws FormationError `not_found`; while reading, `internal` for a damaged copy, which is then set
   *   aside.
   */
  async get(digest: Digest): Promise<AsyncIterable<Uint8Array>> {
    const content = await this.#blobs.get(digest);
    await this.#blobs.touch(digest);
    return content;
  }

  digests(): AsyncIterable<Digest> {
    return this.#blobs.digests();
  }

  /** Removes copies that are not in `kept` and were neither put nor read lately. */
  async collect(kept: ReadonlySet<string>, olderThanMs: number): Promise<void> {
    await this.#blobs.collect(kept, olderThanMs);
    await this.#trim();
  }

  /**
   * Removes the least recently read copies until the rest fits, but never `keep`, which is about to be read.
   */
  async #trim(keep?: Digest): Promise<void> {
    const found: { digest: Digest; bytes: number; at: number }[] = [];
    for await (const digest of this.#blobs.digests()) {
      const [info, at] = [await this.#blobs.stat(digest), await this.#blobs.touchedAt(digest)];
      if (info && at !== null) found.push({ digest, bytes: info.bytes, at });
    }
    this.#bytes = found.reduce((sum, { bytes }) => sum + bytes, 0);
    for (const { digest, at } of found.sort((a, b) => a.at - b.at)) {
      if (this.#bytes <= this.#maxBytes) return;
      if (digest !== keep) this.#bytes -= await this.#blobs.discard(digest, at);
    }
  }
}
