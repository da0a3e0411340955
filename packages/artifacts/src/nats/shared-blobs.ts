// Blobs that all nodes share, read and written through this node's copies. In both directions a blob is first
// complete and verified on this node. So nothing is sent twice, a slow reader does not block the store, and
// concurrent readers share one fetch.

import { type Clock, FormationError, type Logger } from "@formation-mcp/contract";
import type { BlobCache } from "../directory/blob-cache.ts";
import { damagedBlob, hexOf, notFound } from "../directory/blobs.ts";
import type { BlobInfo, Digest } from "../port.ts";
import { unlessAborted } from "../streams.ts";
import { type BlobHead, MISSING, type NatsBlobs } from "./object-store.ts";

const MAX_TRIES = 5;

export class SharedBlobs {
  readonly #remote: NatsBlobs;
  readonly #cache: BlobCache;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #removes: boolean;
  readonly #sending = new Map<Digest, Promise<void>>();
  readonly #fetching = new Map<Digest, Promise<void>>();

  /** @param removes whether this process may remove stored blobs. */
  constructor(remote: NatsBlobs, cache: BlobCache, clock: Clock, logger: Logger, removes: boolean) {
    this.#removes = removes;
    this.#remote = remote;
    this.#cache = cache;
    this.#clock = clock;
    this.#logger = logger;
  }

  async put(
    content: AsyncIterable<Uint8Array>,
    options: { maxBytes: number; expected?: Digest; signal?: AbortSignal },
  ): Promise<BlobInfo> {
    const info = await this.#cache.put(content, options);
    await unlessAborted(this.#send(info), options.signal);
    return info;
  }

  async get(digest: Digest): Promise<AsyncIterable<Uint8Array>> {
    if ((await this.#cache.info(digest)) === null && (await this.stat(digest)) === null)
      throw notFound(digest);
    return this.#serve(digest);
  }

  async stat(digest: Digest): Promise<BlobInfo | null> {
    hexOf(digest);
    const head = await this.#remote.head(digest);
    return head && { digest, bytes: head.bytes };
  }

  async collect(roots: AsyncIterable<string> | Iterable<string>, olderThanMs: number): Promise<number> {
    const kept = new Set<string>();
    for await (const root of roots) kept.add(root);
    await this.#cache.collect(kept, olderThanMs);
    const bytes = this.#removes ? await this.#remove(kept, this.#clock.now() - olderThanMs) : 0;
    for await (const digest of this.#cache.digests()) if (kept.has(digest)) await this.#restore(digest);
    return bytes;
  }

  async #remove(kept: ReadonlySet<string>, before: number): Promise<number> {
    let bytes = 0;
    for (const digest of await this.#remote.digests()) {
      if (kept.has(digest)) continue;
      const head = await this.#remote.head(digest);
      if (head === null) await this.#remote.removeName(digest);
      else if (head.putAt <= before && (await this.#remote.remove(head))) bytes += head.bytes;
    }
    await this.#remote.removeOrphans();
    return bytes;
  }

  /** Resolves when no transfer is running. */
  async idle(): Promise<void> {
    await Promise.allSettled([...this.#sending.values(), ...this.#fetching.values()]);
  }

  /**
   * Fetches a copy when the reader requests the first byte. If it was removed before that to free space, it
   * is fetched again.
   */
  async *#serve(digest: Digest): AsyncIterable<Uint8Array> {
    for (let tries = 1; ; tries++) {
      let begun = false;
      try {
        for await (const chunk of await this.#cache.get(digest)) {
          begun = true;
          yield chunk;
        }
        return;
      } catch (error) {
        if (begun || tries === MAX_TRIES || (error as FormationError).code !== "not_found") throw error;
        await this.#fetch(digest);
      }
    }
  }

  #fetch(digest: Digest): Promise<void> {
    return shareRun(this.#fetching, digest, async () => {
      for (let tries = 1; ; tries++) {
        const head = await this.#remote.head(digest);
        if (head === null) throw notFound(digest);
        await this.#cache.requireRoom(head.bytes);
        try {
          await this.#cache.put(this.#remote.read(head), { maxBytes: head.bytes, expected: digest });
          return;
        } catch (error) {
          const isWrong = error === MISSING || ["invalid", "limit"].includes((error as FormationError).code);
          if (!isWrong) throw error;
          // It may have been removed or stored again while it was read.
          const now = await this.#remote.head(digest);
          if (now?.group === head.group || tries === MAX_TRIES) throw await this.#setAside(head);
        }
      }
    });
  }

  async #setAside(head: BlobHead): Promise<FormationError> {
    await this.#remote.forget(head);
    this.#logger.log("error", "A blob is damaged in NATS and was set aside.", { digest: head.digest });
    return damagedBlob(head.digest);
  }

  /** Makes sure that a blob with a copy on this node is stored, complete and with a fresh age. */
  #send(info: BlobInfo): Promise<void> {
    return shareRun(this.#sending, info.digest, async () => {
      for (let tries = 0; tries < MAX_TRIES; tries++) {
        const found = await this.#remote.look(info.digest);
        if (found.head?.bytes === info.bytes && (await this.#remote.isWhole(found.head))) {
          if (await this.#remote.touch(found.head)) return;
        } else if (await this.#remote.upload(info, await this.#cache.get(info.digest), found)) return;
      }
      throw new FormationError("unavailable", "Others are storing the same content all the time.");
    });
  }

  /** Stores again a blob that a record names and NATS may have lost. */
  async #restore(digest: Digest): Promise<void> {
    try {
      const info = await this.#cache.info(digest);
      if (info === null || (await this.#remote.head(digest))?.bytes === info.bytes) return;
      await this.#send(info);
      this.#logger.log("warn", "A blob that NATS had lost was stored again.", { digest });
    } catch (error) {
      this.#logger.log("warn", `A lost blob could not be stored again: ${(error as Error).message}`, {
        digest,
      });
    }
  }
}

/** Concurrent calls with the same key share one run of the action. */
function shareRun(
  running: Map<Digest, Promise<void>>,
  digest: Digest,
  action: () => Promise<void>,
): Promise<void> {
  let work = running.get(digest);
  if (!work) {
    work = action().finally(() => running.delete(digest));
    running.set(digest, work);
  }
  return work;
}
