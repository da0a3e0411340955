// The conformance suite of the hypervisor: what every driver must do, checked from outside: bytes served,
// exit codes, processes, what is left. A driver's own test calls `describeHypervisor`.

import { describe, expect, it } from "vitest";
import { describeBootFailures } from "./conformance/boot-failures.ts";
import { describeCrashes } from "./conformance/crashes.ts";
import { type HypervisorHarness, NEVER, serving, useHypervisor } from "./conformance/fixture.ts";
import { describeAbandonedMachines, describeLeash, useLeashes } from "./conformance/leash.ts";
import { describeLogs } from "./conformance/logs.ts";
import { describeMachineLife } from "./conformance/machine-life.ts";
import { failureOf } from "./conformance/probes.ts";

export { serving } from "./conformance/fixture.ts";
export { fetchText, leftOf, processesIn } from "./conformance/probes.ts";
export type { WorkerOrders } from "./conformance/worker-process.ts";

/** Declares the suite for one driver. */
export function describeHypervisor(name: string, harness: HypervisorHarness): void {
  describe(name, { timeout: harness.liveTimeoutMs * 6 }, () => {
    const fixture = useHypervisor(harness);

    it("does nothing for a machine that is not there, and says so", async () => {
      await fixture.hypervisor.stop("nobody", { timeoutMs: 1000 });
      await fixture.hypervisor.remove("nobody");
      expect((await fixture.hypervisor.inspect("nobody")).state).toBe("absent");
      expect((await failureOf(fixture.hypervisor.start("nobody", { signal: NEVER }))).code).toBe("not_found");
      const odd = serving("../escape", fixture.disk, 80);
      expect((await failureOf(fixture.hypervisor.create(odd))).code).toBe("invalid");
    });

    describeMachineLife(fixture);
    describeLogs(fixture);
    describeBootFailures(fixture);
    describeCrashes(fixture);
    describe("with a leash", () => {
      const leashes = useLeashes(fixture);
      describeLeash(leashes);
      describeAbandonedMachines(leashes);
    });
  });
}
