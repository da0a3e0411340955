// The conformance suite of the queue: what every driver must do, checked only through the port, with real
// processes where a case needs several.

import { describe } from "vitest";
import { TEST_TIMEOUT_MS } from "./child-process.ts";
import { describeDelivery, describeProcesses } from "./conformance/delivery.ts";
import { describeEvents } from "./conformance/events.ts";
import { type QueueHarness, useQueue } from "./conformance/fixture.ts";
import { describeClosing, describeRedelivery } from "./conformance/redelivery.ts";

/** Declares the suite for one driver. */
export function describeQueue(name: string, start: () => Promise<QueueHarness>): void {
  describe(`${name} is a queue`, { timeout: TEST_TIMEOUT_MS }, () => {
    const fixture = useQueue(start);
    describeDelivery(fixture);
    describeProcesses(fixture);
    describeRedelivery(fixture);
    describeClosing(fixture);
    describeEvents(fixture);
  });
}
