import { expect, test } from "vitest";
import { HELLO, live, ready } from "./formfiles.ts";
import { BOB, openWorld } from "./world.ts";

test("calls with the same input and idempotency key make one build, even with different wait_seconds", async () => {
  await using world = await openWorld();
  const input = { formfile: HELLO, idempotency_key: "k" };
  const first = await world.call("pack_build", input);
  const second = await world.call("pack_build", { ...input, wait_seconds: 0.01 });
  expect(second["build_id"]).toBe(first["build_id"]);
  const both = await Promise.all(
    [1, 2].map(() => world.call("pack_build", { ...input, idempotency_key: "l" })),
  );
  expect(both[0]?.["build_id"]).toBe(both[1]?.["build_id"]);
  expect((await world.call("build_list"))["builds"]).toHaveLength(2);
});

test("other input under a used idempotency key is a conflict", async () => {
  await using world = await openWorld();
  await world.call("pack_build", { formfile: HELLO, idempotency_key: "k" });
  const error = await world.refused("pack_build", {
    formfile: { ...HELLO, name: "b" },
    idempotency_key: "k",
  });
  expect([error.code, error.details.field]).toEqual(["conflict", "idempotency_key"]);
});

test("idempotency keys are separate for each owner and each tool", async () => {
  await using world = await openWorld();
  const mine = await world.call("pack_build", { formfile: HELLO, idempotency_key: "k" });
  const theirs = await world.call("pack_build", { formfile: HELLO, idempotency_key: "k" }, BOB);
  expect(theirs["build_id"]).not.toBe(mine["build_id"]);
  await world.call("vm_create", { image: "busybox", instance_name: "box", idempotency_key: "k" });
});

test("pack_ship, vm_create, vm_control and vm_delete repeated under their key return the first operation", async () => {
  await using world = await openWorld();
  const build_id = await ready(world);
  const twice = async (tool: string, input: Record<string, unknown>) => {
    const keyed = { ...input, idempotency_key: tool };
    const first = await world.call(tool, keyed);
    await world.worker.step();
    const second = await world.call(tool, keyed);
    expect(second["operation_id"], tool).toBe(first["operation_id"]);
    expect(second["done"], tool).toBe(true);
  };
  await twice("pack_ship", { build_id, instance_name: "web" });
  await twice("vm_create", { image: "busybox", instance_name: "box" });
  await twice("vm_control", { instance: "web", action: "restart" });
  await twice("vm_delete", { instance: "web", confirm: "web" });
});

test("a failed operation fails again under its idempotency key; a refused call does not use the key up", async () => {
  await using world = await openWorld();
  await live(world);
  const input = { formfile: HELLO, idempotency_key: "k" };
  world.worker.plan = world.worker.fail({ code: "invalid", message: "It broke." });
  await world.call("pack_build", input);
  await world.worker.step();
  expect((await world.refused("pack_build", input)).message).toBe("It broke.");

  const pause = { instance: "web", action: "pause", idempotency_key: "p" };
  await world.call("vm_control", { instance: "web", action: "stop" });
  world.worker.plan = (operation) => world.worker.complete(operation);
  await world.worker.step();
  expect((await world.refused("vm_control", pause)).code).toBe("conflict");
  await world.call("vm_control", { instance: "web", action: "start" });
  await world.worker.step();
  await world.call("vm_control", pause);
});
