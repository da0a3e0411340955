import { newId } from "@formation-mcp/contract";
import { findTool, TOOLS, type ToolName } from "@formation-mcp/tools";
import { expect, test } from "vitest";
import { ready } from "./formfiles.ts";
import { ALICE, type Json, openWorld, ROOT } from "./world.ts";

const metadata = Object.fromEntries(
  Array.from({ length: 64 }, (_, n) => [`key-${n}-${"k".repeat(200)}`, '"'.repeat(256)]),
);
const FAT = {
  from: "busybox",
  name: "fat",
  entrypoint: ["x", ..."y".repeat(2000)],
  run: Array.from({ length: 150 }, (_, n) => `echo ${n} ${"x".repeat(600)}`),
  include: Array.from({ length: 300 }, (_, n) => `${"d".repeat(200)}/${n}`),
  env: Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`VARIABLE_${n}`, "v".repeat(100)])),
  expose: Array.from({ length: 32 }, (_, n) => 1000 + n),
  metadata,
};
const files = Object.fromEntries(FAT.include.map((path) => [path, "x"]));
const DUE = 20_000;

test("no result is longer than 20 kB of JSON, however large the records are", async () => {
  await using world = await openWorld();
  const results: Record<string, Json> = {};
  const call = async (tool: ToolName, input: Json, principal = ALICE) => {
    results[tool] = await world.call(tool, input, principal);
    expect(Buffer.byteLength(JSON.stringify(results[tool])), tool).toBeLessThanOrEqual(DUE);
    const fits = findTool(tool)?.output.safeParse(results[tool]);
    expect(fits?.error, tool).toBeUndefined();
    return results[tool];
  };
  await call("pack_build", { formfile: FAT, context_files: files, dry_run: true });
  const build = await call("pack_build", { formfile: FAT, context_files: files });
  await world.worker.step();
  const build_id = String(build["build_id"]);
  await world.worker.log(
    build_id,
    Array.from({ length: 500 }, () => '"'.repeat(500)),
    "build",
  );
  await call("build_get", { build_id, log_tail: 500 });
  const ship = await call("pack_ship", { build_id });
  world.worker.plan = world.worker.fail({
    code: "invalid",
    message: "m".repeat(10_000),
    remedy: "r".repeat(10_000),
    log_tail: Array.from({ length: 40 }, () => '"'.repeat(5000)),
  });
  await world.worker.step();
  await call("vm_status", { instance: "fat" });
  await call("operation_get", { id: ship["operation_id"] });
  await world.worker.log(
    String(ship["instance_id"]),
    Array.from({ length: 900 }, () => '\u0001"'.repeat(90)),
  );
  await call("vm_logs", { instance: "fat", tail: 1000 });
  await call("vm_create", { image: "busybox", instance_name: "small" });
  for (let n = 0; n < 60; n += 1)
    await world.call("vm_create", { image: "busybox", instance_name: `vm-${n}`, vm_config: { metadata } });
  await call("vm_list", { limit: 50 });
  await call("build_list", { limit: 50 });
  await call("operation_list", { limit: 50 });
  await call("operation_cancel", { operation_id: ship["operation_id"] });
  world.worker.plan = (operation) => world.worker.complete(operation);
  await world.worker.step();
  await call("vm_control", { instance: "small", action: "stop" });
  await call("vm_delete", { instance: "small", confirm: "small" });
  for (let n = 0; n < 50; n += 1) {
    const labels = Object.fromEntries(
      Array.from({ length: 16 }, (_, i) => [`k${i}`.padEnd(63, "k"), "v".repeat(63)]),
    );
    await world.store.registerNode({ ...(await world.worker.register()), id: newId("node"), labels });
  }
  await call("node_list", { limit: 50 }, ROOT);
  expect(Object.keys(results).sort()).toEqual(TOOLS.map(({ name }) => name).sort());
}, 30_000);

test("a list page that was shortened loses no record: the next page continues after it", async () => {
  await using world = await openWorld();
  await ready(world);
  for (let n = 0; n < 45; n += 1)
    await world.call("vm_create", {
      image: "busybox",
      instance_name: `vm-${n}-${"x".repeat(50)}`,
      vm_config: { metadata },
    });
  const names: string[] = [];
  let cursor: unknown = null;
  do {
    const page = await world.call("vm_list", { limit: 50, ...(cursor === null ? {} : { cursor }) });
    names.push(...(page["instances"] as { name: string }[]).map(({ name }) => name));
    cursor = page["cursor"];
  } while (cursor !== null);
  expect(new Set(names).size).toBe(45);
  expect(names).toHaveLength(45);
}, 30_000);

test("an error with many problems stays readable", async () => {
  await using world = await openWorld();
  const context_files = Object.fromEntries(Array.from({ length: 5000 }, (_, n) => [`../${n}`, "x"]));
  const error = await world.refused("pack_build", {
    formfile: { ...FAT, include: ["."] },
    context_files,
  });
  expect(Buffer.byteLength(JSON.stringify(error.toRecord()))).toBeLessThan(DUE);
  expect(error.message).toContain("and 4950 more");
});
