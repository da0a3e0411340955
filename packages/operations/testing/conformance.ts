// The conformance suite of the store: what every driver must do. A driver's own test calls `describeStore`.

import type { Clock } from "@formation-mcp/contract";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { describeAuditForgetting, describeAuditLines } from "./conformance/audit-log.ts";
import { describeCancellation } from "./conformance/cancellation.ts";
import { describeClaims, describeNeeds } from "./conformance/claims.ts";
import {
  describeConcurrentClaims,
  describeConcurrentDesires,
  describeConcurrentSubmissions,
} from "./conformance/concurrency.ts";
import { describeConcurrentAudit, describeConcurrentSweeps } from "./conformance/concurrency-records.ts";
import { describeCounters } from "./conformance/counters.ts";
import { describeExpiry, describeLists, describeWrites } from "./conformance/documents.ts";
import { describeDocumentModel } from "./conformance/documents-model.ts";
import { describeLeases, describeOutcomes } from "./conformance/leases.ts";
import { describeFilters, describePages } from "./conformance/listing.ts";
import {
  describeLabels,
  describeNodeState,
  describeRemovedNodes,
  describeSilentNodes,
} from "./conformance/nodes.ts";
import {
  describeConcurrentQuotas,
  describeExceptions,
  describeReplacements,
  describeUsage,
} from "./conformance/quotas.ts";
import { describeRandomHistory } from "./conformance/random-history.ts";
import { describeInstanceWrites, describeRecords, describeSubmissions } from "./conformance/submissions.ts";
import { describeDeadlines, describeExpired, describeStranded } from "./conformance/sweep.ts";
import { refused, type StoreHarness, testClock, type World, world } from "./conformance/world.ts";

export { play as playHistory, steps as anySteps } from "./conformance/random-history.ts";
export { type StoreHarness, testClock, type World, world } from "./conformance/world.ts";

/**
 * Declares the suite for a driver. `open` makes an empty store that uses the clock given. With `reopen` in
 * what it returns, the cases of several connections run too.
 */
export function describeStore(name: string, open: (clock: Clock) => Promise<StoreHarness>): void {
  describe(`the ${name} store`, () => {
    let opened: StoreHarness;
    let here: World;
    beforeEach(async () => {
      const clock = testClock();
      opened = await open(clock);
      here = world(opened.store, clock);
    });
    afterEach(() => opened.close());
    const current = () => here;
    const another = async () => await opened.reopen?.();

    describe("submissions", () => {
      describeSubmissions(current);
      describeInstanceWrites(current);
      describeRecords(current);
    });
    describe("claims", () => {
      describeClaims(current);
      describeNeeds(current);
    });
    describe("leases", () => {
      describeLeases(current);
      describeOutcomes(current);
    });
    describe("cancellation", () => describeCancellation(current));
    describe("nodes", () => {
      describeLabels(current);
      describeNodeState(current);
      describeSilentNodes(current);
      describeRemovedNodes(current);
    });
    describe("lists", () => {
      describePages(current);
      describeFilters(current);
    });
    describe("sweep", () => {
      describeStranded(current);
      describeDeadlines(current);
      describeExpired(current);
    });
    describe("documents", () => {
      describeWrites(current);
      describeExpiry(current, another);
      describeLists(current);
      describeDocumentModel(current);
    });
    describe("counters", () => describeCounters(current, another));
    describe("audit log", () => {
      describeAuditLines(current);
      describeAuditForgetting(current);
    });
    describe("quotas", () => {
      describeUsage(current);
      describeReplacements(current);
      describeExceptions(current);
      describeConcurrentQuotas(current, another);
    });
    describe("many at once", () => {
      describeConcurrentSubmissions(current, another);
      describeConcurrentClaims(current, another);
      describeConcurrentDesires(current, another);
      describeConcurrentSweeps(current, another);
      describeConcurrentAudit(current, another);
    });
    describe("random histories", () =>
      describeRandomHistory(async () => {
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
