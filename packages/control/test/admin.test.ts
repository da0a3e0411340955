import { expect, test } from "vitest";
import { HELLO, live, ready } from "./formfiles.ts";
import { ALICE, BOB, openWorld, ROOT } from "./world.ts";

test("what an admin does to another owner's VM is written into that owner's records", async () => {
  await using world = await openWorld();
  const { instance_id } = await live(world);
  const build_id = await ready(world, { ...HELLO, name: "second" });
  const input = { instance: instance_id };
  const acts: [string, Record<string, unknown>][] = [
    ["vm_control", { ...input, action: "stop" }],
    ["pack_ship", { build_id, instance_name: "web", replace: true }],
    ["vm_delete", { ...input, confirm: "web" }],
  ];
  for (const [tool, asked] of acts) {
    const keyed = { ...asked, idempotency_key: "k" };
    const first = await world.call(tool, keyed, ROOT);
    await world.worker.step();
    const again = await world.call(tool, keyed, ROOT);
    expect(again["done"], tool).toBe(true);
    // A deleted instance needs no operation, with an idempotency key or without.
    if (tool !== "vm_delete") expect(again["operation_id"], tool).toBe(first["operation_id"]);
    const operation = await world.store.operation("alice", first["operation_id"] as `op_${string}`);
    expect(operation, tool).toMatchObject({ owner: "alice", state: "completed" });
    expect(await world.call("operation_get", { id: operation.id }, ALICE)).toMatchObject({ done: true });
  }
  const { items } = await world.store.deployments({ owner: "root", limit: 10 });
  expect(items).toEqual([]);
  expect(await world.call("vm_list", { state: "deleted" })).toMatchObject({ instances: [{ instance_id }] });
});

test("an admin's idempotency key on another owner's VM is separate from that owner's keys", async () => {
  await using world = await openWorld();
  const { instance_id } = await live(world);
  const mine = { instance: instance_id, action: "restart", idempotency_key: "k" };
  const theirs = { instance: instance_id, action: "stop", idempotency_key: "k" };
  const own = await world.call("vm_control", mine, ALICE);
  await world.worker.step();
  const admins = await world.call("vm_control", theirs, ROOT);
  expect(admins["operation_id"]).not.toBe(own["operation_id"]);
  await world.worker.step();
  expect((await world.call("vm_control", mine, ALICE))["operation_id"]).toBe(own["operation_id"]);
});

test("an admin cancels operations of any owner, but a name is looked up only in the admin's own account", async () => {
  await using world = await openWorld();
  const { operation_id } = await world.call("vm_create", { image: "busybox", instance_name: "box" }, BOB);
  expect(await world.call("operation_cancel", { operation_id }, ROOT)).toMatchObject({ state: "cancelled" });
  expect((await world.refused("vm_status", { instance: "box" }, ROOT)).code).toBe("not_found");
});

test("lists show an admin the owner of each record", async () => {
  await using world = await openWorld();
  const ship = await live(world);
  const { build_id, instance_id } = ship;
  expect(await world.call("build_list", {}, ROOT)).toMatchObject({ builds: [{ owner: "alice" }] });
  expect(await world.call("build_get", { build_id }, ROOT)).toMatchObject({ owner: "alice" });
  expect(await world.call("vm_list", {}, ROOT)).toMatchObject({ instances: [{ owner: "alice" }] });
  expect(await world.call("vm_status", { instance: instance_id }, ROOT)).toMatchObject({ owner: "alice" });
  const { operations } = await world.call("operation_list", {}, ROOT);
  for (const operation of operations as Record<string, unknown>[]) expect(operation["owner"]).toBe("alice");
});
