// What a driver's own test passes to the suite, and what each case works with.

import type { Artifacts, Digest } from "@formation-mcp/artifacts";

/** One store, fresh for each case. */
export interface ArtifactsHarness {
  /** Opens the driver; each call is another user of the same store. */
  open(): Promise<Artifacts>;
  /** Changes a byte of a stored blob without the driver. */
  damage(digest: Digest): Promise<void>;
  /** Removes the store. */
  close(): Promise<void>;
}

/** Two users of one store. */
export interface ArtifactsUnderTest {
  artifacts: Artifacts;
  /** Another user of the same store. */
  other: Artifacts;
  damage(digest: Digest): Promise<void>;
}
