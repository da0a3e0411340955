// The conformance suite of the artifacts port: what every driver must do, checked only through the port.

import { afterEach, beforeEach, describe } from "vitest";
import { describeBlobs, describeCollection, describeFailedPuts } from "./conformance/blobs.ts";
import type { ArtifactsHarness, ArtifactsUnderTest } from "./conformance/harness.ts";
import { describeLogReading, describeLogWriting } from "./conformance/logs.ts";

/** Declares the suite for one driver. */
export function describeArtifacts(name: string, start: () => Promise<ArtifactsHarness>): void {
  describe(`${name} keeps artifacts`, { timeout: 60_000 }, () => {
    let harness: ArtifactsHarness;
    let store: ArtifactsUnderTest;
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
    const current = () => store;
    describe("blobs", () => {
      describeBlobs(current);
      describeFailedPuts(current);
      describeCollection(current);
    });
    describe("logs", () => {
      describeLogReading(current);
      describeLogWriting(current);
    });
  });
}
