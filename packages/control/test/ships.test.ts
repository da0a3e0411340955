import { expect, test } from "vitest";
import { HELLO, live, ready } from "./formfiles.ts";
import { openWorld } from "./world.ts";

test("a shipped build is live with its URLs; the instance has the build's name unless another is given", async () => {
  await using world = await openWorld();
  world.worker.start();
  const build_id = (await world.call("pack_build", { formfile: HELLO, wait_seconds: 10 }))["build_id"];
  const ship = await world.call("pack_ship", { build_id, wait_seconds: 10 });
  expect(ship).toMatchObject({
    instance_name: "hello",
    state: "live",
    done: true,
    urls: ["http://127.0.0.1:40080"],
  });
  expect(ship["next"]).toContain("http://127.0.0.1:40080");
});

test.each([
  ["0.0.0.0", undefined, "http://127.0.0.1:40080"],
  ["::", undefined, "http://[::1]:40080"],
  ["0.0.0.0", "vm.example.org", "http://vm.example.org:40080"],
  ["::", "2001:db8::1", "http://[2001:db8::1]:40080"],
  ["192.0.2.1", "vm.example.org", "http://192.0.2.1:40080"],
] as const)("a port bound to %s of a machine known as %s answers at %s", async (bound, knownAs, url) => {
  await using world = await openWorld(knownAs === undefined ? {} : { knownAs });
  world.worker.bound = bound;
  await live(world, "web");
  expect((await world.call("vm_status", { instance: "web" }))["urls"]).toEqual([url]);
  expect(await world.call("vm_list")).toMatchObject({ instances: [{ urls: [url] }] });
});

test("shipping a build that is not ready is a conflict with a remedy", async () => {
  await using world = await openWorld();
  const queued = await world.call("pack_build", { formfile: HELLO });
  const error = await world.refused("pack_ship", { build_id: queued["build_id"] });
  expect(error.code).toBe("conflict");
  expect(error.details.remedy).toContain(`operation_get with id ${queued["operation_id"]}`);
  await world.call("operation_cancel", { operation_id: queued["operation_id"] });
  const cancelled = await world.refused("pack_ship", { build_id: queued["build_id"] });
  expect(cancelled.details.remedy).toContain("build_get");
});

test("an instance_name in use needs replace: true, which ships to the same instance", async () => {
  await using world = await openWorld();
  const first = await live(world, "web", { vm_config: { network: { host_ports: { "8080": 18_080 } } } });
  const build_id = await ready(world, { ...HELLO, name: "second" });
  const error = await world.refused("pack_ship", { build_id, instance_name: "web" });
  expect([error.code, error.details.field]).toEqual(["conflict", "instance_name"]);
  expect(error.details.remedy).toContain("replace: true");
  const second = await world.call("pack_ship", { build_id, instance_name: "web", replace: true });
  expect(second["instance_id"]).toBe(first["instance_id"]);
  expect(second["deployment_id"]).not.toBe(first["deployment_id"]);
  await world.worker.step();
  const status = await world.call("vm_status", { instance: "web" });
  expect(status).toMatchObject({ build_id, deployment_id: second["deployment_id"], state: "running" });
  expect(status["urls"], "a fixed host port outlives a replacement").toEqual(["http://127.0.0.1:18080"]);
});

test("vm_config overrides the values of the build, and metadata is merged", async () => {
  await using world = await openWorld();
  const build_id = await ready(world, {
    ...HELLO,
    resources: { vcpus: 2, memory_mb: 256, disk_gb: 3 },
    metadata: { team: "red", tier: "test" },
  });
  await world.call("pack_ship", { build_id, vm_config: { memory_mb: 1024, metadata: { tier: "live" } } });
  await world.worker.step();
  expect(await world.call("vm_status", { instance: "hello" })).toMatchObject({
    resources: { vcpus: 2, memory_mb: 1024, disk_gb: 3 },
    metadata: { team: "red", tier: "live" },
  });
});

test("one error names every wrong field of vm_config", async () => {
  await using world = await openWorld();
  const build_id = await ready(world);
  const shape = await world.refused("pack_ship", { build_id, vm_config: { vcpus: 0, memory_mb: 1, cpu: 3 } });
  for (const field of ["vm_config.vcpus", "vm_config.memory_mb", "vm_config.cpu"])
    expect(shape.message).toContain(field);
  const long = "x".repeat(257);
  const meaning = await world.refused("pack_ship", {
    build_id,
    vm_config: { network: { host_ports: { "81": 8081 } }, metadata: { a: long, b: "\u0007" } },
  });
  for (const field of ['vm_config.network.host_ports["81"]', "vm_config.metadata.a", "vm_config.metadata.b"])
    expect(meaning.message).toContain(field);
  const name = await world.refused("pack_ship", { build_id, instance_name: "Not_A_Label" });
  expect(name.details).toMatchObject({ field: "instance_name", remedy: expect.any(String) });
});

test("formnet is accepted with a warning in the result and in vm_status", async () => {
  await using world = await openWorld();
  const build_id = await ready(world);
  const ship = await world.call("pack_ship", { build_id, vm_config: { network: { join_formnet: true } } });
  expect(ship["warnings"]).toEqual([expect.stringContaining("formnet")]);
  expect(await world.call("vm_status", { instance: "hello" })).toMatchObject({ warnings: ship["warnings"] });
});

test("vm_create builds from the image and ships in one operation", async () => {
  await using world = await openWorld();
  const made = await world.call("vm_create", { image: "busybox", instance_name: "box", expose: [80] });
  expect(made).toMatchObject({ instance_name: "box", state: "queued", done: false });
  expect(await world.worker.step()).toMatchObject({ tool: "vm_create", state: "completed" });
  expect(await world.call("build_get", { build_id: made["build_id"] })).toMatchObject({ state: "ready" });
  expect(await world.call("vm_status", { instance: "box" })).toMatchObject({ state: "running" });
  const taken = await world.refused("vm_create", { image: "busybox", instance_name: "box" });
  expect(taken.code).toBe("conflict");
});

test("errors of vm_create name its own fields, not those of the formfile", async () => {
  await using world = await openWorld();
  const error = await world.refused("vm_create", {
    image: "not an image",
    instance_name: "box",
    expose: [0],
  });
  expect(error.details.field).toBe("image");
  expect(error.message).toContain("image");
  expect(error.message).toContain("expose");
});

test("a failed ship leaves its error on the instance", async () => {
  await using world = await openWorld();
  const build_id = await ready(world);
  world.worker.plan = world.worker.fail({
    code: "invalid",
    message: "The entrypoint ended with 1.",
    step: "entrypoint",
    exit_code: 1,
    log_tail: ["boom"],
  });
  const ship = await world.call("pack_ship", { build_id, instance_name: "web" });
  await world.worker.step();
  const status = await world.call("vm_status", { instance: "web" });
  expect(status).toMatchObject({ state: "failed", error: { code: "invalid", exit_code: 1 }, urls: [] });
  expect(status["log"]).toContain("boom");
  expect(await world.call("operation_get", { id: ship["deployment_id"] })).toMatchObject({ state: "failed" });
  const start = await world.refused("vm_control", { instance: "web", action: "start" });
  expect(start.details.remedy).toContain("replace: true");
});
