// What every artifacts driver must do, asserted through the port alone.

import type { Artifacts, Digest } from "@formation-mcp/artifacts";
import { afterEach, beforeEach, describe } from "vitest";
import { blobLaws } from "./conformance/blobs.ts";
import { logLaws } from "./conformance/logs.ts";

/** One store, fresh for each law. */
export interface ArtifactsHarness {
  /** Opens the driver; each call is another user of the same store. */
  open(): Promise<Artifacts>;
  /** Changes some byte of a stored blob behind the driver's back. */
  damage(digest: Digest): Promise<void>;
  /** Removes the store. */
  close(): Promise<void>;
}

/** What a law works with. */
export interface Store {
  artifacts: Artifacts;
  /** Another user of the same store. */
  other: Artifacts;
  damage(digest: Digest): Promise<void>;
}

/** Declares the laws of the artifacts port for one driver. */
export function describeArtifacts(name: string, start: () => Promise<ArtifactsHarness>): void {
  describe(`${name} keeps artifacts`, { timeout: 60_000 }, () => {
    let harness: ArtifactsHarness;
    let store: Store;
    beforeEach(async () => {
      harness = await start();
      const { damage } = harness;
      store = { artifacts: await harness.open(), other: await harness.open(), damage };
    });
    afterEach(async () => {
      await store.artifacts.close();
      await store.other.close();
      await harness.close();
    });
    blobLaws(() => store);
    logLaws(() => store);
  });
}
