// Counters: what all callers get in a window is never more than its limit.

import fc from "fast-check";
import { expect, it } from "vitest";
import { MINUTE, type Reopen, refused, SWEEP, type World } from "./world.ts";

/** Counters in fixed windows. */
export function describeCounters(open: () => World, reopen: Reopen): void {
  it("a limit is spent in parts, and is there again in the next window", async () => {
    const { store, clock } = open();
    const resets_at = clock.now() - (clock.now() % MINUTE) + MINUTE;
    const spend = (amount: number, limit = 5) =>
      store.counters.spend({ key: "k", limit, windowMs: MINUTE, amount });
    expect(await spend(3)).toEqual({ granted: 3, resets_at });
    expect(await spend(3)).toEqual({ granted: 2, resets_at });
    expect(await spend(3)).toEqual({ granted: 0, resets_at });
    expect(await spend(3, 2)).toEqual({ granted: 0, resets_at });
    expect(await spend(3, 7)).toEqual({ granted: 2, resets_at });
    clock.pass(resets_at - clock.now() - 1);
    expect(await spend(1, 7)).toEqual({ granted: 0, resets_at });
    clock.pass(1);
    expect(await spend(1)).toEqual({ granted: 1, resets_at: resets_at + MINUTE });
    const other = { key: "other", limit: 5, windowMs: MINUTE, amount: 5 };
    expect((await store.counters.spend(other)).granted).toBe(5);
  });

  it("the sweep removes what was counted in windows that are over", async () => {
    const { store, clock } = open();
    const spend = (key: string, windowMs: number) =>
      store.counters.spend({ key, limit: 1, windowMs, amount: 1 });
    await spend("long", 1e12);
    for (let i = 0; i < 1100; i++) await spend(`short ${i}`, 10);
    await store.sweep(SWEEP);
    clock.pass(10);
    const before = store.revision();
    await store.sweep(SWEEP);
    const after = store.revision();
    expect(after).toBeGreaterThan(before);
    await store.sweep(SWEEP);
    expect(store.revision()).toBe(after);
    expect((await spend("long", 1e12)).granted).toBe(0);
  });

  it("invalid limits, windows and amounts are refused", async () => {
    const { store } = open();
    const request = { key: "k", limit: 5, windowMs: MINUTE, amount: 1 };
    for (const wrong of [{ limit: Number.NaN }, { windowMs: 0 }, { windowMs: 0.5 }, { amount: -1 }]) {
      await refused(store.counters.spend({ ...request, ...wrong }), "invalid");
    }
  });

  it("for any calls from two connections, a window grants exactly up to its limit", async () => {
    const { store, clock } = open();
    const all = [store, (await reopen()) ?? store];
    const calls = fc.array(
      fc.record({ who: fc.nat(1), amount: fc.nat(4), pass: fc.constantFrom(0, 0, 0, 40, 100) }),
      { maxLength: 30 },
    );
    let round = 0;
    await fc.assert(
      fc.asyncProperty(calls, fc.integer({ min: 1, max: 10 }), async (list, limit) => {
        const key = `round ${round++}`;
        const granted = new Map<number, number>();
        for (const { who, amount, pass } of list) {
          clock.pass(pass);
          const window = Math.floor(clock.now() / 100);
          const spent = granted.get(window) ?? 0;
          const got = await all[who]?.counters.spend({ key, limit, windowMs: 100, amount });
          expect(got).toEqual({ granted: Math.min(amount, limit - spent), resets_at: (window + 1) * 100 });
          granted.set(window, spent + (got?.granted ?? 0));
        }
      }),
      { numRuns: 60 },
    );
  });
}
