// Images between the builds that make them and the sweep that removes what no record names. A record names an image only
// when its operation ends, and a build may end in an image that was about to go: until then its attempt holds it.

import type { KeyedLock } from "@formation-mcp/base";
import type { Builder } from "@formation-mcp/builder";
import { FormationError } from "@formation-mcp/contract";

export interface ImageHolds {
  /**
   * Keeps what an attempt has made from being removed, until it is released.
   * @throws FormationError `unavailable` if it was removed before.
   */
  hold(attempt: object, digest: string): Promise<void>;
  /** The attempt has ended: if it succeeded, a record names the image. */
  release(attempt: object): void;
  /** What is held now, and what comes to be until this is called again: the records read meanwhile may not name it yet. */
  watch(): ReadonlySet<string>;
  /** Removes an image, unless it was held since the last watch began. */
  remove(digest: string): Promise<void>;
}

export function createImageHolds(builder: Builder, locks: KeyedLock): ImageHolds {
  const held = new Map<object, string>();
  let watched = new Set<string>();
  const alone = (digest: string, action: () => Promise<void>) => locks.run(`image ${digest}`, action);
  return {
    async hold(attempt, digest) {
      held.set(attempt, digest);
      watched.add(digest);
      await alone(digest, async () => {
        if ((await builder.images()).some((image) => image.digest === digest)) return;
        throw new FormationError(
          "unavailable",
          "The image was removed as an old one while it was made anew.",
        );
      });
    },
    release: (attempt) => void held.delete(attempt),
    watch() {
      watched = new Set(held.values());
      return watched;
    },
    remove: (digest) =>
      alone(digest, async () => {
        if (watched.has(digest)) return;
        await builder.remove(digest);
      }),
  };
}
