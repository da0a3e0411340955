// The conformance suite of the builder: what every driver must do, checked by effects, such as a disk's
// files, a build's output, and what is left on the machine. A driver's own test calls `describeBuilder`.

import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { describeCache } from "./conformance/cache.ts";
import { describeFailures } from "./conformance/failures.ts";
import { describeCrash, describeFaults } from "./conformance/faults.ts";
import { type BuilderHarness, Fixture } from "./conformance/fixture.ts";
import { describeDisks, describeImages } from "./conformance/images.ts";
import { describeOutput, describeRunLines } from "./conformance/run-lines.ts";
import { describeTransfers } from "./conformance/transfers.ts";

export type { BuilderHarness } from "./conformance/fixture.ts";

/** Declares the suite for one driver. */
export function describeBuilder(name: string, driver: BuilderHarness): void {
  describe(`the builder ${name}`, () => {
    const fixture = new Fixture(driver);
    beforeAll(() => fixture.open(), 60_000);
    afterAll(() => fixture.close(), 60_000);

    describeRunLines(fixture);
    describeOutput(fixture);
    describeCache(fixture);
    describeFailures(fixture);
    describeImages(fixture, driver);
    describeDisks(fixture, driver);
    it("says what it is and what it enforces", async () => {
      const report = await fixture.builder.probe();
      expect(report).toMatchObject({ ready: true, problems: [] });
      expect(report.enforced.map((one) => one.what)).toEqual(
        expect.arrayContaining(["memory limit", "pids limit", "disk limit", "time limit", "network filter"]),
      );
    });
    describeFaults(fixture, driver);
    describeTransfers(fixture);
    describeCrash(fixture, driver);
  });
}
