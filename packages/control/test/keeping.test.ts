import { type Id, LIMITS } from "@formation-mcp/contract";
import { startKeeper } from "@formation-mcp/control";
import { expect, test } from "vitest";
import { HELLO, live } from "./formfiles.ts";
import { openWorld } from "./world.ts";

const NEVER = 2 ** 30;

test("where no worker lives, servers wake again what was stranded, and end what passed its deadline", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  const { operation_id } = await world.call("pack_build", { formfile: HELLO });
  const sent: string[] = [];
  await using _ = await world.queue.consume(["pack.build"], { slots: 1 }, async (message) => {
    sent.push(message.operation_id);
  });
  await expect.poll(() => sent).toEqual([operation_id]);
  const keeper = startKeeper({ ...world, everyMs: NEVER });
  clock.at += LIMITS.strandedMs;
  await keeper.sweep();
  await expect.poll(() => sent).toEqual([operation_id, operation_id]);
  clock.at += LIMITS.queuedMs + LIMITS.attempts * LIMITS.buildMs;
  const told: string[] = [];
  await using __ = await world.queue.subscribe(({ id }) => told.push(id));
  await keeper.sweep();
  const ended = await world.store.operation(null, operation_id as Id<"op">);
  expect(ended).toMatchObject({ state: "failed", error: { code: "unavailable" } });
  await expect.poll(() => told).toContain(operation_id);
  await keeper.close();
});

test("the instances of a silent node are lost, unless nodes may be silent", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openWorld({ clock }, { clock });
  await live(world);
  clock.at += LIMITS.nodeSilentMs;
  const patient = startKeeper({ ...world, everyMs: NEVER, nodeSilentMs: null });
  await patient.sweep();
  await patient.close();
  expect(await world.call("vm_status", { instance: "web" })).toMatchObject({ state: "running" });
  const keeper = startKeeper({ ...world, everyMs: NEVER });
  await keeper.sweep();
  await keeper.close();
  expect(await world.call("vm_status", { instance: "web" })).toMatchObject({ state: "lost" });
});
