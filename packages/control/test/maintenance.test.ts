import type { Artifacts } from "@formation-mcp/artifacts";
import { FormationError, type Id, LIMITS, newId } from "@formation-mcp/contract";
import { startMaintenance } from "@formation-mcp/control";
import { expect, test } from "vitest";
import { HELLO, live } from "./formfiles.ts";
import { openWorld } from "./world.ts";

const NEVER = 2 ** 30;

test("without a worker, servers send wake-ups of stranded operations again and end operations at their deadline", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  const { operation_id } = await world.call("pack_build", { formfile: HELLO });
  const sent: string[] = [];
  await using _ = await world.queue.consume(["pack.build"], { slots: 1 }, async (message) => {
    sent.push(message.operation_id);
  });
  await expect.poll(() => sent).toEqual([operation_id]);
  const maintenance = startMaintenance({ ...world, everyMs: NEVER });
  clock.at += LIMITS.strandedMs;
  await maintenance.sweep();
  await expect.poll(() => sent).toEqual([operation_id, operation_id]);
  clock.at += LIMITS.queuedMs + LIMITS.attempts * LIMITS.buildMs;
  const told: string[] = [];
  await using __ = await world.queue.subscribe(({ id }) => told.push(id));
  await maintenance.sweep();
  const ended = await world.store.operation(null, operation_id as Id<"op">);
  expect(ended).toMatchObject({ state: "failed", error: { code: "unavailable" } });
  await expect.poll(() => told).toContain(operation_id);
  await maintenance.close();
});

test("the instances of a silent node are lost, unless nodeSilentMs is null", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  await live(world);
  clock.at += LIMITS.nodeSilentMs;
  const patient = startMaintenance({ ...world, everyMs: NEVER, nodeSilentMs: null });
  await patient.sweep();
  await patient.close();
  expect(await world.call("vm_status", { instance: "web" })).toMatchObject({ state: "running" });
  const maintenance = startMaintenance({ ...world, everyMs: NEVER });
  await maintenance.sweep();
  await maintenance.sweep();
  await maintenance.close();
  expect(await world.call("vm_status", { instance: "web" })).toMatchObject({ state: "lost" });
});

test("after an outage of the store no node counts as silent until it had time to send a heartbeat", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  await live(world);
  let away = false;
  const { markLost } = world.store;
  const store = {
    ...world.store,
    markLost: async (silentMs: number) => {
      if (away) throw new FormationError("unavailable", "The store is away.");
      return await markLost(silentMs);
    },
  };
  const maintenance = startMaintenance({ ...world, store, everyMs: NEVER });
  const seen = async () => {
    await maintenance.sweep();
    return (await world.call("vm_status", { instance: "web" }))["state"];
  };
  expect(await seen()).toBe("running");
  clock.at += LIMITS.nodeSilentMs;
  away = true;
  expect(await seen()).toBe("running");
  away = false;
  expect(await seen()).toBe("running");
  expect(await seen()).toBe("lost");
  await maintenance.close();
});

test("one server per period collects shared artifacts; a log is removed when its record is gone", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  const { build_id } = await world.call("pack_build", { formfile: HELLO });
  const kept = String(build_id);
  const gone = newId("bld");
  let collected = 0;
  const artifacts: Artifacts = {
    ...world.artifacts,
    shared: true,
    collect: async () => {
      collected += 1;
      return 0;
    },
  };
  for (const name of [kept, gone]) {
    await artifacts.appendLog(name, [{ at: clock.at, stream: "build", text: "a line" }]);
  }
  const maintenances = [1, 2].map(() => startMaintenance({ ...world, artifacts, everyMs: NEVER }));
  for (const maintenance of maintenances) await maintenance.sweep();
  expect(collected).toBe(1);
  expect(await artifacts.logNames()).toEqual([kept]);
  clock.at += NEVER;
  for (const maintenance of maintenances) await maintenance.sweep();
  expect(collected).toBe(2);
  for (const maintenance of maintenances) await maintenance.close();
});

test("if the queue is unavailable a sweep tries one wake-up only, and a closing sweep sends no more", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  for (let n = 0; n < 3; n++) await world.call("pack_build", { formfile: HELLO });
  let away = true;
  let published = 0;
  const answer = Promise.withResolvers<void>();
  world.queue.publish = async () => {
    published += 1;
    if (away) throw new FormationError("unavailable", "The queue is away.");
    await answer.promise;
  };
  const maintenance = startMaintenance({ ...world, everyMs: NEVER });
  clock.at += LIMITS.strandedMs;
  await maintenance.sweep();
  expect(published).toBe(1);
  away = false;
  clock.at += LIMITS.strandedMs;
  const sweep = maintenance.sweep();
  await expect.poll(() => published).toBe(2);
  const closed = maintenance.close();
  answer.resolve();
  await Promise.all([sweep, closed]);
  expect(published).toBe(2);
});

test("a wake-up that the queue refuses does not stop the others from being sent again", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  for (let n = 0; n < 3; n++) await world.call("pack_build", { formfile: HELLO });
  let published = 0;
  world.queue.publish = async () => {
    published += 1;
    throw new FormationError("forbidden", "Not this one.");
  };
  const maintenance = startMaintenance({ ...world, everyMs: NEVER });
  clock.at += LIMITS.strandedMs;
  await maintenance.sweep();
  expect(published).toBe(3);
  await maintenance.close();
});
