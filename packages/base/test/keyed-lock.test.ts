// The keyed lock: order on one key, independence of keys, failures, and what it keeps.

import { createKeyedLock } from "@formation-mcp/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";

const KEYS = ["a", "b", "c"];

describe("a keyed lock", () => {
  it("runs the actions of a key one after the other in their order, whether they fail or not", async () => {
    const plans = fc.array(
      fc.record({ key: fc.constantFrom(...KEYS), turns: fc.nat(4), fails: fc.boolean() }),
      { maxLength: 30 },
    );
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        const lock = createKeyedLock();
        const holders = new Map<string, number>();
        const order: number[] = [];
        const results = plan.map(({ key, turns, fails }, index) =>
          lock.run(key, async () => {
            expect(holders.get(key)).toBeUndefined();
            holders.set(key, index);
            order.push(index);
            for (let turn = 0; turn < turns; turn++) await Promise.resolve();
            expect(holders.get(key)).toBe(index);
            holders.delete(key);
            if (fails) throw new Error(`${index} failed`);
            return index;
          }),
        );
        const settled = await Promise.allSettled(results);
        for (const [index, result] of settled.entries()) {
          if (plan[index]?.fails) expect(result).toMatchObject({ reason: { message: `${index} failed` } });
          else expect(result).toMatchObject({ value: index });
        }
        for (const key of KEYS) {
          const ofKey = order.filter((index) => plan[index]?.key === key);
          expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b));
        }
      }),
    );
  });

  it("does not let one key wait for another", async () => {
    const lock = createKeyedLock();
    const held = Promise.withResolvers<void>();
    const first = lock.run("a", () => held.promise);
    expect(await lock.run("b", async () => "done")).toBe("done");
    held.resolve();
    await first;
  });

  it("runs with tryRun only what finds the key free", async () => {
    const lock = createKeyedLock();
    const held = Promise.withResolvers<string>();
    const first = lock.tryRun("a", () => held.promise);
    expect(await lock.tryRun("a", async () => "second")).toBeNull();
    held.resolve("first");
    expect(await first).toBe("first");
    expect(await lock.tryRun("a", async () => "third")).toBe("third");
  });

  it("is idle when everything that was asked for has ended, failures included", async () => {
    const lock = createKeyedLock();
    await lock.idle();
    let ended = 0;
    const actions = KEYS.map((key) =>
      lock.run(key, async () => {
        await Promise.resolve();
        ended++;
        throw new Error("failed");
      }),
    );
    const failed = Promise.allSettled(actions);
    await lock.idle();
    expect(ended).toBe(KEYS.length);
    await failed;
  });
});
