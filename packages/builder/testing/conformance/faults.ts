// Builds that misbehave or are killed: they end, the error gives the reason, and nothing is left.

import { existsSync, rmSync } from "node:fs";
import { waitFor } from "@formation-mcp/os";
import { expect, it } from "vitest";
import { type BuilderHarness, ended, type Fixture, processesWith } from "./fixture.ts";

const MB = 1_000_000;

/** Builds that are cancelled, or exceed their time or other limits. */
export function describeFaults(fixture: Fixture, driver: BuilderHarness): void {
  it("ends every process of a build that is cancelled", async () => {
    const marker = fixture.unique();
    const stop = new AbortController();
    const line = `(sleep 600 ${marker} & sleep 600 ${marker} & setsid sleep 600 ${marker} & wait) & echo up; wait`;
    const building = fixture.start({ run: [line] }, {}, stop);
    await building.saw("up");
    await waitFor(() => processesWith(marker).length > 0, { timeoutMs: 30_000, what: "its processes" });
    stop.abort();
    expect(await building.error).toMatchObject({ code: "cancelled" });
    expect(processesWith(marker)).toEqual([]);
    expect(await fixture.leftovers()).toEqual([]);
  });

  it("does not begin a build that is cancelled already", async () => {
    const stop = new AbortController();
    stop.abort();
    const building = fixture.start({ run: ["echo never"] }, { noCache: true }, stop);
    expect(await building.error).toMatchObject({ code: "cancelled" });
    expect(building.lines).toEqual([]);
  });

  it("ends a build that takes too long", async () => {
    const marker = fixture.unique();
    const error = await fixture.fails(
      { run: [`trap '' TERM; sleep 600 ${marker}; sleep 600`] },
      { timeout_ms: 1500 },
    );
    expect(error).toMatchObject({ code: "limit", details: { step: "run 1/1" } });
    expect(error.message).toMatch(/did not end within/);
    await ended(() => processesWith(marker));
    expect(await fixture.leftovers()).toEqual([]);
  });

  it("ends a build that fills the disk, with one file or with many", async () => {
    const before = (await fixture.builder.images()).length;
    // They write half as much again as they may and wait: what would write on costs CPU until it is ended.
    const fill = "dd if=/dev/zero of=big bs=1000000 count=60 2>/dev/null; sleep 60";
    const many = "i=0; while [ $i -lt 60 ]; do i=$((i+1)); head -c 1000000 /dev/zero > f$i; done; sleep 60";
    const quick = "head -c 60000000 /dev/zero > big";
    for (const run of [[fill], [many], ["echo ok", quick]]) {
      const error = await fixture.fails({ run }, { disk_bytes: 40 * MB });
      expect(error).toMatchObject({ code: "limit" });
      expect(error.message).toMatch(/disk/);
      expect(error.details.remedy).toBeTruthy();
    }
    expect((await fixture.builder.images()).length).toBe(before);
    expect(await fixture.leftovers()).toEqual([]);
  });

  it("ends a build that makes more files than its disk would have room for, though they are empty", async () => {
    const many = "i=0; while [ $i -lt 12000 ]; do i=$((i+1)); : > e$i; done; sleep 60";
    const error = await fixture.fails({ run: [many] }, { disk_bytes: 40 * MB });
    expect(error).toMatchObject({ code: "limit" });
    expect(error.message).toMatch(/more than the 10000 files/);
    expect(await fixture.leftovers()).toEqual([]);
  });

  it("refuses included files beyond the disk limit", async () => {
    fixture.context({ big: "x".repeat(3 * MB) });
    const error = await fixture.fails({ include: ["big"] }, { disk_bytes: 2 * MB });
    expect(error).toMatchObject({ code: "limit", details: { step: "include" } });
  });

  if (driver.bounds.includes("pids")) {
    it("stops a build that forks without end", async () => {
      const error = await fixture.fails(
        { run: ["bomb() { bomb | bomb & wait; }; bomb; exit 1"] },
        { pids: 60 },
      );
      expect(error).toMatchObject({ code: "limit", details: { step: "run 1/1" } });
      expect(error.message).toMatch(/pids limit of 60/);
      const forever = "while :; do sleep 100 & done 2>/dev/null";
      const held = await fixture.fails({ run: [forever] }, { pids: 60 });
      expect(held.message).toMatch(/pids limit of 60/);
      expect(await fixture.leftovers()).toEqual([]);
    });
  }

  if (driver.bounds.includes("memory")) {
    it("stops a build that takes too much memory", async () => {
      const error = await fixture.fails(
        { run: ["x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done"] },
        { memory_mb: 64 },
      );
      expect(error).toMatchObject({ code: "limit", details: { step: "run 1/1" } });
      expect(error.message).toMatch(/memory limit of 64 MiB/);
      expect(await fixture.leftovers()).toEqual([]);
    });
  }
}

/** What a new process does with the leftovers of a killed one. */
export function describeCrash(fixture: Fixture, driver: BuilderHarness): void {
  it("removes what a killed process left half-made", async () => {
    const stateDir = fixture.directory("killed");
    const marker = fixture.unique();
    const child = fixture.child(stateDir, { run: [`echo running; sleep 600 ${marker}`] });
    try {
      await child.saw("running");
      child.kill();
      await child.ended;
      const builder = await driver.open(stateDir);
      await builder.recover();
      await ended(() => processesWith(marker));
      expect(await driver.leftovers(stateDir)).toEqual([]);
      await expect(fixture.buildOn(builder, { run: ["echo works > file"] })).resolves.toBeDefined();
      await builder.destroy();
      expect(existsSync(stateDir)).toBe(false);
    } finally {
      child.kill();
      rmSync(stateDir, { recursive: true, force: true });
    }
  });
}
