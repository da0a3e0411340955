import { expect, test } from "vitest";
import { live } from "./formfiles.ts";
import { openWorld } from "./world.ts";

test("each vm_control action changes the state of the instance and its desired state", async () => {
  await using world = await openWorld();
  await live(world);
  world.worker.start();
  const after = async (action: string) => {
    const said = await world.call("vm_control", { instance: "web", action, wait_seconds: 10 });
    const { desired } = await world.call("vm_status", { instance: "web" });
    return [said["done"], said["state"], desired];
  };
  expect(await after("pause")).toEqual([true, "paused", "paused"]);
  expect(await after("resume")).toEqual([true, "running", "running"]);
  expect(await after("stop")).toEqual([true, "stopped", "stopped"]);
  expect(await after("stop"), "again is no error").toEqual([true, "stopped", "stopped"]);
  expect(await after("start")).toEqual([true, "running", "running"]);
  expect(await after("restart")).toEqual([true, "running", "running"]);
});

test("an action that is illegal in the current state is a conflict that names the legal ones", async () => {
  await using world = await openWorld();
  await live(world);
  await world.call("vm_control", { instance: "web", action: "stop" });
  await world.worker.step();
  const error = await world.refused("vm_control", { instance: "web", action: "pause" });
  expect([error.code, error.details.field]).toEqual(["conflict", "action"]);
  expect(error.details.remedy).toBe("Possible now: start, stop, restart.");
});

test("an instance that is being created can't be controlled yet", async () => {
  await using world = await openWorld();
  const made = await world.call("vm_create", { image: "busybox", instance_name: "box" });
  const error = await world.refused("vm_control", { instance: "box", action: "stop" });
  expect(error.code).toBe("conflict");
  expect(error.details.remedy).toContain(`operation_get with id ${made["instance_id"]}`);
});

test("vm_delete needs the name as confirmation, cancels other operations of the instance, and can be repeated", async () => {
  await using world = await openWorld();
  const ship = await live(world);
  const wrong = await world.refused("vm_delete", { instance: "web", confirm: "wep" });
  expect(wrong.details.field).toBe("confirm");
  expect(JSON.stringify(wrong.toRecord()), "a refusal does not teach its own bypass").not.toContain('"web"');

  const stop = await world.call("vm_control", { instance: "web", action: "stop" });
  const first = await world.call("vm_delete", { instance: "web", confirm: "web" });
  const again = await world.call("vm_delete", { instance: "web", confirm: "web" });
  expect(again["operation_id"]).toBe(first["operation_id"]);
  expect(await world.call("operation_get", { id: stop["operation_id"], wait_seconds: 0 })).toMatchObject({
    state: "cancelled",
  });
  const busy = await world.refused("pack_ship", { build_id: ship["build_id"], instance_name: "web" });
  expect(busy.message).toContain("being deleted");
  await world.worker.step();
  expect(await world.call("vm_list")).toMatchObject({ instances: [] });
  const gone = await world.call("vm_delete", { instance: ship["instance_id"], confirm: "web" });
  expect(gone).toMatchObject({ state: "deleted", done: true });
  expect((await world.refused("vm_delete", { instance: "web", confirm: "web" })).code).toBe("not_found");
});

test("an instance that no node has taken yet can be deleted by any worker", async () => {
  await using world = await openWorld();
  const made = await world.call("vm_create", { image: "busybox", instance_name: "box" });
  await world.call("vm_delete", { instance: "box", confirm: "box" });
  expect(await world.call("operation_get", { id: made["operation_id"], wait_seconds: 0 })).toMatchObject({
    state: "cancelled",
  });
  await world.worker.step();
  expect(await world.call("vm_list")).toMatchObject({ instances: [] });
});
