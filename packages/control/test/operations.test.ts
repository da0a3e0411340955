import type { Id } from "@formation-mcp/contract";
import { createControl } from "@formation-mcp/control";
import type { Store } from "@formation-mcp/operations";
import { expect, test } from "vitest";
import { HELLO, live, ready } from "./formfiles.ts";
import { ALICE, openWorld, until } from "./world.ts";

test("a waiting call returns after wait_seconds, and the operation goes on", async () => {
  await using world = await openWorld();
  const said = await world.call("pack_build", { formfile: HELLO, wait_seconds: 0.3 });
  expect(said).toMatchObject({ state: "queued", done: false });
  await world.worker.step();
  expect(await world.call("operation_get", { id: said["operation_id"] })).toMatchObject({
    state: "completed",
  });
});

test("wait_seconds above the limit is refused with an error that names the limit", async () => {
  await using world = await openWorld();
  const error = await world.refused("operation_get", { id: "op_x", wait_seconds: 46 });
  expect(error.details.field).toBe("wait_seconds");
  expect(error.message).toContain("45");
});

test("a waiting call returns when the operation ends, and reports each step before, with a fraction that never falls", async () => {
  await using world = await openWorld();
  world.worker.plan = async (operation, lease) => {
    for (const [step, fraction] of [
      ["pull", 0.2],
      ["run 1/2", 0.6],
      ["run 2/2", 0.4],
      ["commit", null],
    ] as const) {
      await world.worker.report(lease, step, fraction);
      await world.queue.emit({ v: 1, id: operation.id, owner: operation.owner });
      await seen(step);
    }
    return world.worker.complete(operation);
  };
  const told: { step: string; fraction: number | null }[] = [];
  const seen = (step: string) => until(() => told.some((each) => each.step === step));
  world.worker.start();
  const said = await world.control.call(
    ALICE,
    "pack_build",
    { formfile: HELLO, wait_seconds: 30 },
    { onProgress: (progress) => told.push(progress) },
  );
  expect(said).toMatchObject({ state: "ready", done: true });
  expect(told.map(({ step }) => step).filter((step) => step !== "queued" && step !== "running")).toEqual([
    "pull",
    "run 1/2",
    "run 2/2",
    "commit",
  ]);
  const fractions = told.flatMap(({ fraction }) => (fraction === null ? [] : [fraction]));
  expect(fractions).toEqual(fractions.toSorted((a, b) => a - b));
});

test("an event makes a waiting call read the store although its revision is unchanged", async () => {
  const late = (store: Store): Store =>
    new Proxy(store, {
      get(target, name) {
        const value: unknown = Reflect.get(target, name);
        if (name === "revision") return () => 0;
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  await using world = await openWorld(({ store }) => ({ store: late(store) }));
  const { operation_id: id } = await world.call("pack_build", { formfile: HELLO });
  let [looked, done] = [false, false];
  const onProgress = () => {
    looked = true;
  };
  const waiting = world.control
    .call(ALICE, "operation_get", { id, wait_seconds: 30 }, { onProgress })
    .finally(() => {
      done = true;
    });
  await until(() => looked);
  await world.worker.step();
  await until(async () => {
    await world.queue.emit({ v: 1, id: id as Id<"op">, owner: "alice" });
    return done;
  });
  expect(await waiting).toMatchObject({ state: "completed", done: true });
});

test("a caller that aborts does not stop the operation", async () => {
  await using world = await openWorld();
  const caller = new AbortController();
  const waiting = world.control.call(
    ALICE,
    "pack_build",
    { formfile: HELLO, wait_seconds: 45 },
    { signal: caller.signal },
  );
  await until(async () => ((await world.call("operation_list"))["operations"] as unknown[]).length === 1);
  caller.abort();
  expect(await waiting).toMatchObject({ done: false });
  expect(await world.worker.step()).toMatchObject({ state: "completed" });
});

test("operation_get finds an operation by each of its ids", async () => {
  await using world = await openWorld();
  const ship = await live(world);
  for (const key of ["operation_id", "deployment_id", "instance_id"]) {
    const said = await world.call("operation_get", { id: ship[key] });
    expect(said, key).toMatchObject({
      operation_id: ship["operation_id"],
      tool: "pack_ship",
      state: "completed",
      done: true,
      record: { id: ship["instance_id"], name: "web", state: "running" },
      urls: ["http://127.0.0.1:40080"],
    });
  }
  expect(await world.call("operation_get", { id: ship["build_id"] })).toMatchObject({ tool: "pack_build" });
  const bad = await world.refused("operation_get", { id: "web" });
  expect(bad.details).toMatchObject({ field: "id", remedy: expect.stringContaining("op_") });
});

test("operation_get answers from the build or instance after the operation expired", async () => {
  await using world = await openWorld();
  const ship = await live(world);
  world.worker.plan = world.worker.fail({ code: "invalid", message: "It broke.", remedy: "Mend it." });
  const failed = await world.call("pack_build", { formfile: HELLO });
  await world.worker.step();
  await until(async () => {
    await world.store.sweep({ operationKeptMs: 0, strandedMs: 30_000, unusedBuildKeptMs: 1e9 });
    return ((await world.call("operation_list"))["operations"] as unknown[]).length === 0;
  });
  const gone = await world.refused("operation_get", { id: ship["operation_id"] });
  expect(gone.details.remedy).toContain("bld_");
  expect(await world.call("operation_get", { id: ship["build_id"] })).toMatchObject({ state: "completed" });
  expect(await world.call("operation_get", { id: ship["deployment_id"] })).toMatchObject({
    state: "completed",
  });
  expect(await world.call("operation_get", { id: ship["instance_id"] })).toMatchObject({ done: true });
  expect(await world.call("operation_get", { id: failed["build_id"] })).toMatchObject({
    state: "failed",
    error: { message: "It broke.", remedy: "Mend it." },
  });
});

test("operation_cancel cancels a queued operation at once, asks a running one to stop, and leaves a finished one", async () => {
  await using world = await openWorld();
  const queued = await world.call("pack_build", { formfile: HELLO });
  const cancel = (id: unknown) => world.call("operation_cancel", { operation_id: id });
  expect(await cancel(queued["operation_id"])).toMatchObject({ state: "cancelled", done: true });
  expect(await cancel(queued["operation_id"])).toMatchObject({ state: "cancelled", done: true });
  expect(await world.call("build_get", { build_id: queued["build_id"] })).toMatchObject({
    state: "cancelled",
  });

  const running = await world.call("pack_build", { formfile: HELLO });
  world.worker.plan = async (operation) => {
    const asked = await cancel(operation.id);
    expect(asked).toMatchObject({ state: "running", done: false, cancel_requested: true });
    return world.worker.complete(operation);
  };
  expect(await world.worker.step()).toMatchObject({ id: running["operation_id"], state: "completed" });
  expect(await cancel(running["operation_id"])).toMatchObject({ state: "completed", done: true });
});

test("a cancelled operation is an error to a waiting caller", async () => {
  await using world = await openWorld();
  const waiting = world.refused("pack_build", { formfile: HELLO, wait_seconds: 30 });
  let id: unknown;
  await until(async () => {
    id = ((await world.call("operation_list"))["operations"] as { operation_id: string }[])[0]?.operation_id;
    return id !== undefined;
  });
  await world.call("operation_cancel", { operation_id: id });
  const error = await waiting;
  expect([error.code, typeof error.details.remedy]).toEqual(["cancelled", "string"]);
});

test("operation_list filters by state and target", async () => {
  await using world = await openWorld();
  const build = await ready(world);
  await world.call("pack_build", { formfile: HELLO });
  const tools = async (input: Record<string, unknown>) =>
    ((await world.call("operation_list", input))["operations"] as { state: string }[]).map(
      ({ state }) => state,
    );
  expect(await tools({})).toEqual(["queued", "completed"]);
  expect(await tools({ state: "queued" })).toEqual(["queued"]);
  expect(await tools({ target: build })).toEqual(["completed"]);
  const bad = await world.refused("operation_list", { target: "web" });
  expect(bad.details.field).toBe("target");
});

test("a queued operation says why it waits: no worker, too large, or behind another operation", async () => {
  await using world = await openWorld();
  const build_id = await ready(world);
  const huge = await world.call("pack_ship", { build_id, vm_config: { memory_mb: 262_144 } });
  expect(huge).toMatchObject({
    progress: { step: "queued", message: expect.stringMatching(/262144 MB .* has only .* 65536 MB/) },
  });
  const build = await world.call("pack_build", { formfile: HELLO });
  expect(build).toMatchObject({
    progress: { message: expect.stringContaining("2048 MB of memory and 1 GB of disk free") },
  });
  await using idle = await openWorld({ clock: { now: () => Date.now() + 10 * 60_000 } });
  const stranded = await idle.call("pack_build", { formfile: HELLO });
  expect(stranded).toMatchObject({ progress: { message: expect.stringContaining("none is running") } });
});

test("vm_status shows the age of the report if the node is silent", async () => {
  await using world = await openWorld();
  await live(world);
  expect(await world.call("vm_status", { instance: "web" })).toMatchObject({ warnings: [] });
  const later = createControl({ ...world, clock: { now: () => Date.now() + 3_600_000 } });
  const said = await later.call(ALICE, "vm_status", { instance: "web" });
  expect(said).toMatchObject({ warnings: [expect.stringContaining("60 min")], state: "running" });
});

test("vm_status warns of limits that the node could not enforce and of problems of a running machine", async () => {
  await using world = await openWorld();
  await live(world);
  const instance = await world.store.instanceByName(ALICE.owner, "web");
  if (!instance?.observed) throw new Error("It was not observed.");
  const observed = { ...instance.observed, unenforced: ["memory limit"], problem: "its disk is full" };
  await world.store.observe(instance.id, instance.version, { observed });
  expect(await world.call("vm_status", { instance: "web" })).toMatchObject({
    warnings: ["Its machine has a problem: its disk is full", "Not enforced for this VM: memory limit."],
  });
});

test("the time to submit counts as waiting, because hosts give up on a call after a minute", async () => {
  await using world = await openWorld({
    ensureWorker: () => new Promise((resolve) => setTimeout(resolve, 150)),
  });
  let waited = false;
  const { subscribe } = world.queue;
  world.queue.subscribe = (listener) => {
    waited = true;
    return subscribe.call(world.queue, listener);
  };
  expect(await world.call("pack_build", { formfile: HELLO, wait_seconds: 0.1 })).toMatchObject({
    done: false,
  });
  expect(waited).toBe(false);
});

test("refused calls are logged for the operator, without their input", async () => {
  const told: unknown[] = [];
  await using world = await openWorld({ logger: { log: (...line) => told.push(line) } });
  const reader = { ...ALICE, scopes: new Set(["vm:read"] as const) };
  await world.refused("vm_delete", { instance: "my-secret", confirm: "my-secret" }, reader);
  expect(told).toEqual([
    ["warn", "A call was refused.", expect.objectContaining({ tool: "vm_delete", owner: "alice" })],
  ]);
  expect(JSON.stringify(told)).not.toContain("my-secret");
});
