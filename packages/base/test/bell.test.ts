// The bell: no ring is lost between a look and a wait, and a wait always ends.

import { Bell } from "@formation-mcp/base";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

const LONG_MS = 60_000;

describe("a bell", () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it("ends a wait with a ring", async () => {
    const bell = new Bell();
    const wait = bell.wait(LONG_MS);
    bell.ring();
    expect(await wait).toBe(true);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("keeps a ring that comes while nothing waits, and several as one", async () => {
    const bell = new Bell();
    bell.ring();
    bell.ring();
    expect(await bell.wait(LONG_MS)).toBe(true);
    const second = bell.wait(LONG_MS);
    await vi.advanceTimersByTimeAsync(LONG_MS);
    expect(await second).toBe(false);
  });

  it("takes rings that end one wait as one", async () => {
    const bell = new Bell();
    const first = bell.wait(LONG_MS);
    bell.ring();
    bell.ring();
    expect(await first).toBe(true);
    const second = bell.wait(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(await second).toBe(false);
  });

  it("ends a wait when its time is over", async () => {
    const bell = new Bell();
    const wait = bell.wait(10);
    await vi.advanceTimersByTimeAsync(10);
    expect(await wait).toBe(false);
  });

  it("ends a wait when its signal aborts, and begins none after that", async () => {
    const bell = new Bell();
    const abort = new AbortController();
    const wait = bell.wait(LONG_MS, abort.signal);
    abort.abort();
    expect(await wait).toBe(false);
    expect(await bell.wait(LONG_MS, abort.signal)).toBe(false);
    expect(vi.getTimerCount()).toBe(0);
  });

  it("tells of a ring although the signal aborted", async () => {
    const bell = new Bell();
    bell.ring();
    expect(await bell.wait(LONG_MS, AbortSignal.abort())).toBe(true);
  });

  it("ends all waits with one ring", async () => {
    const bell = new Bell();
    const waits = [bell.wait(LONG_MS), bell.wait(LONG_MS), bell.wait(LONG_MS)];
    bell.ring();
    expect(await Promise.all(waits)).toEqual([true, true, true]);
  });
});
