import { newId } from "@formation-mcp/contract";
import { TOOLS } from "@formation-mcp/tools";
import { expect, test } from "vitest";
import { live, ready } from "./formfiles.ts";
import { ALICE, BOB, type Json, openWorld } from "./world.ts";

test("every record of another owner gives the same error as one that does not exist", async () => {
  await using world = await openWorld();
  const ship = await live(world);
  const { build_id, instance_id, deployment_id, operation_id } = ship as Record<string, string>;
  const asks = (ids: Record<"build" | "vm" | "dep" | "op", string>): [string, Json][] => [
    ["build_get", { build_id: ids.build }],
    ["pack_ship", { build_id: ids.build }],
    ["vm_status", { instance: ids.vm }],
    ["vm_logs", { instance: ids.vm }],
    ["vm_control", { instance: ids.vm, action: "stop" }],
    ["vm_delete", { instance: ids.vm, confirm: "web" }],
    ["operation_get", { id: ids.op }],
    ["operation_get", { id: ids.build }],
    ["operation_get", { id: ids.dep }],
    ["operation_get", { id: ids.vm }],
    ["operation_cancel", { operation_id: ids.op }],
  ];
  const theirs = asks({
    build: build_id ?? "",
    vm: instance_id ?? "",
    dep: deployment_id ?? "",
    op: operation_id ?? "",
  });
  const nobodys = asks({ build: newId("bld"), vm: newId("vm"), dep: newId("dep"), op: newId("op") });
  const plain = (text: string | undefined) => text?.replace(/(op|bld|dep|vm)_\w{36}/g, "ID");
  for (const [index, [tool, input]] of theirs.entries()) {
    const error = await world.refused(tool, input, BOB);
    const absent = await world.refused(tool, nobodys[index]?.[1], BOB);
    expect(error.code, tool).toBe("not_found");
    expect(error.details.field, tool).toBeTruthy();
    expect(error.details.remedy, tool).toBeTruthy();
    expect([plain(error.message), plain(error.details.remedy)], tool).toEqual([
      plain(absent.message),
      plain(absent.details.remedy),
    ]);
  }
  for (const [tool, input] of [
    ["vm_status", { instance: "web" }],
    ["vm_logs", { instance: "web" }],
    ["vm_control", { instance: "web", action: "stop" }],
    ["vm_delete", { instance: "web", confirm: "web" }],
  ] as [string, Json][])
    expect((await world.refused(tool, input, BOB)).code, tool).toBe("not_found");
  expect(await world.call("build_list", {}, BOB)).toMatchObject({ builds: [] });
  expect(await world.call("vm_list", {}, BOB)).toMatchObject({ instances: [] });
  expect(await world.call("operation_list", {}, BOB)).toMatchObject({ operations: [] });
  expect(await world.call("operation_list", { target: instance_id }, BOB)).toMatchObject({ operations: [] });
});

test("two owners may use the same instance name", async () => {
  await using world = await openWorld();
  await live(world);
  await world.call("vm_create", { image: "busybox", instance_name: "web" }, BOB);
  expect((await world.call("vm_list", {}, BOB))["instances"]).toHaveLength(1);
});

test("a token with the scope admin reads the records of all owners", async () => {
  await using world = await openWorld();
  const build_id = await ready(world);
  const admin = { owner: "root", scopes: new Set(["admin"] as const), local: false };
  expect(await world.call("build_get", { build_id }, admin)).toMatchObject({ build_id });
  expect((await world.call("build_list", {}, admin))["builds"]).toHaveLength(1);
});

test("no result names an owner, a node or a value of the environment", async () => {
  await using world = await openWorld();
  const secret = { ...ALICE, owner: "owner-5f2c" };
  const formfile = { from: "busybox", name: "hello", entrypoint: "httpd -f", env: { TOKEN: "s3cr3t" } };
  const build = await world.call("pack_build", { formfile }, secret);
  await world.worker.step();
  const ship = await world.call("pack_ship", { build_id: build["build_id"] }, secret);
  await world.worker.step();
  const results = await Promise.all([
    world.call("build_get", { build_id: build["build_id"] }, secret),
    world.call("build_list", {}, secret),
    world.call("vm_status", { instance: "hello" }, secret),
    world.call("vm_list", {}, secret),
    world.call("operation_get", { id: ship["operation_id"] }, secret),
    world.call("operation_list", {}, secret),
  ]);
  const text = JSON.stringify([build, ship, results]);
  for (const hidden of ["owner-5f2c", "s3cr3t", world.worker.node]) expect(text).not.toContain(hidden);
});

test("a call without the tool's scope is forbidden, whatever its input", async () => {
  await using world = await openWorld();
  for (const tool of TOOLS) {
    const scopes = new Set([...ALICE.scopes].filter((scope) => scope !== tool.scope));
    const error = await world.refused(tool.name, { nonsense: 1 }, { ...ALICE, scopes });
    expect(error.code, tool.name).toBe("forbidden");
    expect(error.message, tool.name).toContain(tool.scope);
    const allowed = await world.refused(
      tool.name,
      { nonsense: 1 },
      { ...ALICE, scopes: new Set([tool.scope]) },
    );
    expect(allowed.code, tool.name).toBe("invalid");
    expect(allowed.message, tool.name).toContain("nonsense");
  }
});

test("a tool that the operator does not offer does not exist, and a read-only server changes nothing", async () => {
  await using world = await openWorld({ denyTools: ["vm_delete"], readOnly: true });
  const error = await world.refused("vm_delete", { instance: "web", confirm: "web" });
  expect(error.code).toBe("not_found");
  expect(error.details.remedy).not.toContain("vm_delete");
  expect((await world.refused("nonsense")).code).toBe("not_found");
  expect((await world.refused("vm_create", {})).code).toBe("forbidden");
});
