// The periodic task: one run at a time, failures that end nothing, and a stop that waits.

import { startPeriodicTask } from "@formation-mcp/base";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

const EVERY_MS = 1000;

describe("a periodic task", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("runs every so often, first after one period", async () => {
    const action = vi.fn(async () => {});
    const task = startPeriodicTask({ everyMs: EVERY_MS, action, onFailure: expect.unreachable });
    await vi.advanceTimersByTimeAsync(EVERY_MS - 1);
    expect(action).toHaveBeenCalledTimes(0);
    await vi.advanceTimersByTimeAsync(1 + 2 * EVERY_MS);
    expect(action).toHaveBeenCalledTimes(3);
    await task.stop();
  });

  it("never runs twice at a time: who asks meanwhile gets the run under way", async () => {
    const ends: (() => void)[] = [];
    const action = vi.fn(() => new Promise<void>((resolve) => ends.push(resolve)));
    const task = startPeriodicTask({ everyMs: EVERY_MS, action, onFailure: expect.unreachable });
    const first = task.run();
    const joined = task.run();
    await vi.advanceTimersByTimeAsync(5 * EVERY_MS);
    expect(action).toHaveBeenCalledTimes(1);
    ends.shift()?.();
    await Promise.all([first, joined]);
    const second = task.run();
    expect(action).toHaveBeenCalledTimes(2);
    ends.shift()?.();
    await second;
    await task.stop();
  });

  it("reports a failure and runs on", async () => {
    const failures: unknown[] = [];
    const action = vi.fn(() => Promise.reject("no"));
    const task = startPeriodicTask({
      everyMs: EVERY_MS,
      action,
      onFailure: (thrown) => failures.push(thrown),
    });
    await task.run();
    await vi.advanceTimersByTimeAsync(2 * EVERY_MS);
    expect(failures).toEqual(["no", "no", "no"]);
    await task.stop();
  });

  it("stops when the run under way has ended, and runs no more", async () => {
    let end = () => {};
    const action = vi.fn(() => new Promise<void>((resolve) => (end = resolve)));
    const task = startPeriodicTask({ everyMs: EVERY_MS, action, onFailure: expect.unreachable });
    void task.run();
    let stopped = false;
    const stopping = task.stop().then(() => {
      stopped = true;
    });
    await vi.advanceTimersByTimeAsync(3 * EVERY_MS);
    expect(stopped).toBe(false);
    end();
    await stopping;
    await task.run();
    expect(action).toHaveBeenCalledTimes(1);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("keeps the process alive only if it is meant to", async () => {
    vi.useRealTimers();
    const timers = vi.spyOn(globalThis, "setInterval");
    const task = { everyMs: EVERY_MS, action: async () => {}, onFailure: expect.unreachable };
    const tasks = [startPeriodicTask(task), startPeriodicTask({ ...task, keepsAlive: false })];
    expect(timers.mock.results.map(({ value }) => value.hasRef())).toEqual([true, false]);
    for (const each of tasks) await each.stop();
    timers.mockRestore();
  });
});
