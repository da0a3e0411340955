// Keeps the sweep from removing images that attempts have just built. A record names an image only when its
// operation ends; until then the attempt holds the image. A build may also result in an old image that the
// sweep is about to remove.

import type { KeyedLock } from "@formation-mcp/base";
import type { Builder } from "@formation-mcp/builder";
import { FormationError } from "@formation-mcp/contract";

export interface ImageHolds {
  /**
   * Keeps an image that an attempt has built from being removed, until it is released.
   * @throws FormationError `unavailable` if it was removed before.
   */
  hold(attempt: object, digest: string): Promise<void>;
  /** Releases what an attempt holds. If it succeeded, a record names the image now. */
  release(attempt: object): void;
  /**
   * The images that are held now or come to be held before the next call. Records that are read in between
   * may not name them yet.
   */
  watch(): ReadonlySet<string>;
  /** Removes an image, unless it was held at any time since the last call of `watch`. */
  remove(digest: string): Promise<void>;
}

export function createImageHolds(builder: Builder, locks: KeyedLock): ImageHolds {
  const byAttempt = new Map<object, string>();
  let watched = new Set<string>();
  const exclusively = (digest: string, action: () => Promise<void>) => locks.run(`image ${digest}`, action);
  return {
    async hold(attempt, digest) {
      byAttempt.set(attempt, digest);
      watched.add(digest);
      await exclusively(digest, async () => {
        if ((await builder.images()).some((image) => image.digest === digest)) return;
        throw new FormationError(
          "unavailable",
          "The image was removed as an old one while it was made anew.",
        );
      });
    },
    release: (attempt) => void byAttempt.delete(attempt),
    watch() {
      watched = new Set(byAttempt.values());
      return watched;
    },
    remove: (digest) =>
      exclusively(digest, async () => {
        if (watched.has(digest)) return;
        await builder.remove(digest);
      }),
  };
}
