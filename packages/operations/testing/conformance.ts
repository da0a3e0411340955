// What every driver of the store must do, as laws that a driver's test runs against itself.

import type { Clock } from "@formation-mcp/contract";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { anyHistory } from "./conformance/anything.ts";
import { auditLaws } from "./conformance/auditing.ts";
import { cancelLaws } from "./conformance/cancelling.ts";
import { counterLaws } from "./conformance/counters.ts";
import { documentLaws } from "./conformance/documents.ts";
import { leaseLaws } from "./conformance/leases.ts";
import { nodeLaws } from "./conformance/nodes.ts";
import { pageLaws } from "./conformance/pages.ts";
import { quotaLaws } from "./conformance/quotas.ts";
import { racingLaws } from "./conformance/racing.ts";
import { requestLaws } from "./conformance/requests.ts";
import { sweepLaws } from "./conformance/sweeping.ts";
import { type Opened, refused, testClock, type World, world } from "./conformance/world.ts";

export { play as playHistory, steps as anySteps } from "./conformance/anything.ts";
export { type Opened, testClock, type World, world } from "./conformance/world.ts";

/**
 * Declares the suite for a driver. `open` makes an empty store that goes by the clock given; with `reopen` the laws of
 * sharing are tried too.
 */
export function describeStore(name: string, open: (clock: Clock) => Promise<Opened>): void {
  describe(`the ${name} store`, () => {
    let opened: Opened;
    let here: World;
    beforeEach(async () => {
      const clock = testClock();
      opened = await open(clock);
      here = world(opened.store, clock);
    });
    afterEach(() => opened.close());
    const current = () => here;
    const another = async () => await opened.reopen?.();

    describe("requests", () => requestLaws(current));
    describe("leases", () => leaseLaws(current));
    describe("cancelling", () => cancelLaws(current));
    describe("nodes", () => nodeLaws(current));
    describe("pages", () => pageLaws(current));
    describe("sweeping", () => sweepLaws(current));
    describe("documents", () => documentLaws(current, another));
    describe("counters", () => counterLaws(current, another));
    describe("audit log", () => auditLaws(current));
    describe("quotas", () => quotaLaws(current, another));
    describe("many at once", () => racingLaws(current, another));
    describe("any history", () =>
      anyHistory(async () => {
        const clock = testClock();
        const { store, close } = await open(clock);
        return { world: world(store, clock), close };
      }));

    describe("sharing", () => {
      it("what one writes, another that has the same data open reads, and its revision rises", async () => {
        const other = await opened.reopen?.();
        if (!other) return;
        const before = other.revision();
        const { operation } = await here.store.submit(here.build());
        await expect.poll(() => other.revision(), { interval: 10 }).toBeGreaterThan(before);
        expect(await other.operation(null, operation.id)).toEqual(operation);
        await other.close();
        expect(await here.store.operation(null, operation.id)).toEqual(operation);
      });

      it("a closed store is unavailable", async () => {
        const other = await opened.reopen?.();
        await other?.close();
        if (other) await refused(other.nodes(), "unavailable");
      });
    });
  });
}
