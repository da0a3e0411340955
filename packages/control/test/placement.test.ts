import { type Id, LIMITS, type NodeRecord, newId } from "@formation-mcp/contract";
import { createNodes } from "@formation-mcp/control";
import { expect, test } from "vitest";
import { live, ready } from "./formfiles.ts";
import { ALICE, BOB, type Json, openWorld, ROOT, type World } from "./world.ts";

type Registration = Parameters<World["store"]["registerNode"]>[0];

/** A world whose artifacts are shared: every node can get every image. */
async function openShared(clock?: { now(): number }): Promise<World> {
  const shared = (artifacts: World["artifacts"]) =>
    new Proxy(artifacts, {
      get(target, name: keyof World["artifacts"]) {
        const value = target[name];
        return name === "shared" ? true : typeof value === "function" ? value.bind(target) : value;
      },
    });
  const world = await openWorld(
    ({ artifacts }) => ({ artifacts: shared(artifacts), ...(clock ? { clock } : {}) }),
    clock ? { clock } : {},
  );
  world.worker.plan = async (operation) => {
    const made = await world.worker.complete(operation);
    for (const { patch } of made.changes.builds ?? []) {
      if (patch.image) patch.image = { ...patch.image, archive: `sha256:${"2".repeat(64)}` };
    }
    return made;
  };
  return world;
}

async function another(world: World, over: Partial<Registration> = {}): Promise<NodeRecord> {
  const first = await world.worker.register();
  return world.store.registerNode({ ...first, id: newId("node"), name: "other", ...over });
}

const operationOf = (world: World, said: Json) =>
  world.store.operation(null, said["operation_id"] as Id<"op">);

test("a shipment may run on any node, on the target_node (name or id), or on nodes with the labels", async () => {
  await using world = await openShared();
  const other = await another(world, { labels: { gpu: "yes" } });
  const build_id = await ready(world);
  const ship = async (input: Json) =>
    operationOf(world, await world.call("pack_ship", { build_id, instance_name: `a-${++named}`, ...input }));
  let named = 0;
  expect(await ship({})).toMatchObject({ subject: "pack.ship", node_id: null, labels: {} });
  const pinned = { subject: `vm.control.${other.id}`, node_id: other.id, labels: {} };
  for (const target_node of ["other", other.id]) expect(await ship({ target_node })).toMatchObject(pinned);
  expect(await ship({ target_node: "other", labels: { gpu: "yes" } })).toMatchObject(pinned);
  const labels = { gpu: "yes" };
  expect(await ship({ labels })).toMatchObject({ subject: "pack.ship", node_id: null, labels });
  const image = await world.call("vm_create", { image: "busybox", instance_name: "box", labels });
  expect(await operationOf(world, image)).toMatchObject({ node_id: null, labels });
  const build = await world.call("pack_build", { formfile: { from: "busybox", entrypoint: "x" }, labels });
  expect(await operationOf(world, build)).toMatchObject({ subject: "pack.build", labels });
});

test("an unknown target_node is an error that names the nodes the caller may know: all to an admin, else those of its instances", async () => {
  await using world = await openShared();
  await another(world);
  await live(world);
  const build_id = await ready(world);
  const asked = { build_id, instance_name: "b", target_node: "nowhere" };
  const mine = await world.refused("pack_ship", asked);
  expect(mine).toMatchObject({ code: "not_found", details: { field: "target_node" } });
  expect(mine.details.remedy).toMatch(/one of: test;/);
  const admins = await world.refused("pack_ship", asked, { ...ALICE, scopes: ROOT.scopes });
  expect(admins.details.remedy).toMatch(/one of: .*other/);
  const create = { image: "busybox", instance_name: "b", target_node: "nowhere" };
  for (const principal of [BOB, { ...ALICE, bounds: { instances: ["b"] } }]) {
    const { details } = await world.refused("vm_create", create, principal);
    expect(details.remedy).toMatch(/^Leave target_node out/);
    expect(details.remedy).not.toMatch(/test|other/);
  }
});

test("a shipment that can't run on the requested node is refused with a remedy", async () => {
  await using world = await openShared();
  const other = await another(world);
  const twin = await another(world);
  await live(world);
  const build_id = await ready(world);
  const refused = async (input: Json) => {
    const { code, details, message } = await world.refused("pack_ship", { build_id, ...input });
    expect(code).toBe("conflict");
    return `${details.field}: ${message} ${details.remedy}`;
  };
  expect(await refused({ instance_name: "b", target_node: "other" })).toMatch(/target_node: Several nodes/);
  const away = { instance_name: "web", replace: true, target_node: other.id };
  expect(await refused(away)).toMatch(/running on the node test.* vm_control .* stop/);
  expect(await refused({ instance_name: "web", replace: true, labels: { gpu: "yes" } })).toMatch(
    /labels: .* lacks/,
  );
  await world.store.setNodeScheduling(other.id, { cordoned: true, drain: null });
  expect(await refused({ instance_name: "b", target_node: other.id })).toMatch(/takes nothing new/);
  await world.store.setNodeScheduling(world.worker.node, { cordoned: true, drain: "move" });
  expect(await refused({ instance_name: "web", replace: true })).toMatch(/is being emptied/);
  const start = await world.refused("vm_control", { instance: "web", action: "restart" });
  expect(start).toMatchObject({ code: "conflict", message: expect.stringContaining("emptied") });
  const wrong = await world.refused("pack_ship", { build_id, instance_name: "b", labels: { "A B": "c" } });
  expect(wrong).toMatchObject({ code: "invalid", details: { field: "labels" } });
  expect(twin.name).toBe("other");
});

test("without shared images a shipment goes to the node of its image, and another target_node is a conflict", async () => {
  await using world = await openWorld();
  const other = await another(world);
  const build_id = await ready(world);
  expect(await operationOf(world, await world.call("pack_ship", { build_id }))).toMatchObject({
    node_id: world.worker.node,
  });
  const error = await world.refused("pack_ship", { build_id, instance_name: "b", target_node: other.id });
  expect(error).toMatchObject({
    code: "conflict",
    message: expect.stringContaining("on the node test alone"),
  });
  await world.store.removeNode(world.worker.node, { force: true });
  const gone = await world.refused("pack_ship", { build_id, instance_name: "c" });
  expect(gone).toMatchObject({ code: "conflict", details: { field: "build_id" } });
});

test("a lost VM says since when and what to do; it starts nowhere else before its node is removed, and is deleted when the node returns", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openShared(clock);
  await live(world);
  const heard = new Date((await world.store.nodes())[0]?.heartbeat_at ?? 0).toISOString();
  clock.at += LIMITS.nodeSilentMs;
  const other = await another(world);
  await world.store.registerNode({ ...other, name: "test", id: world.worker.node });
  clock.at += LIMITS.nodeSilentMs;
  await world.store.registerNode(other);
  const silent = new Date(clock.at - LIMITS.nodeSilentMs).toISOString();
  expect(await world.store.markLost(LIMITS.nodeSilentMs)).toHaveLength(1);
  const status = await world.call("vm_status", { instance: "web" });
  expect(status).toMatchObject({ state: "lost", urls: [], node: "test", warnings: [] });
  expect(status["error"]).toMatchObject({ message: expect.stringContaining(silent) });
  expect(JSON.stringify(status)).toMatch(/removes the node with force/);
  expect(heard).not.toBe(silent);
  const build_id = String(status["build_id"]);
  for (const where of [{}, { target_node: other.id }, { target_node: "test" }, { labels: {} }]) {
    const ship = { build_id, instance_name: "web", replace: true, ...where };
    expect(await world.refused("pack_ship", ship)).toMatchObject({
      code: "conflict",
      message: expect.stringContaining('"web" is lost with its node test'),
      details: { field: "instance_name", remedy: expect.stringMatching(/comes back .* with force/) },
    });
  }
  const gone = await world.call("vm_delete", { instance: "web", confirm: "web" });
  expect(gone).toMatchObject({ done: false, state: "lost" });
  const waits = await operationOf(world, gone);
  expect(waits).toMatchObject({ node_id: world.worker.node });
  expect(waits.deadline_at - clock.at).toBeGreaterThanOrEqual(LIMITS.queuedMs);
  const told = await world.call("operation_get", { id: gone["operation_id"] });
  expect(told).toMatchObject({ progress: { message: expect.stringContaining("not heard of since") } });
  await world.store.removeNode(world.worker.node, { force: true });
  expect(await world.call("operation_get", { id: gone["operation_id"] })).toMatchObject({
    state: "completed",
  });
});

test("after its node was removed with force, a lost instance can be shipped to any node", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openShared(clock);
  await live(world);
  const { build_id } = await world.call("vm_status", { instance: "web" });
  const other = await another(world);
  await world.store.registerNode({ ...other, name: "test", id: world.worker.node });
  clock.at += LIMITS.nodeSilentMs;
  expect(await world.store.markLost(LIMITS.nodeSilentMs)).toHaveLength(1);
  await world.store.removeNode(world.worker.node, { force: true });
  const ship = await world.call("pack_ship", { build_id, instance_name: "web", replace: true });
  expect(await operationOf(world, ship)).toMatchObject({ node_id: null, subject: "pack.ship" });
});

test("admins list, cordon, uncordon, drain and remove nodes", async () => {
  const clock = { at: Date.now(), now: () => clock.at };
  await using world = await openShared(clock);
  const other = await another(world, { labels: { gpu: "yes" } });
  await live(world);
  const nodes = createNodes({ ...world, clock });
  const heard: string[] = [];
  await using _ = await world.queue.subscribe(({ id }) => heard.push(id));
  const listed = await world.call("node_list", {}, ROOT);
  expect(
    (listed["nodes"] as Json[]).map(({ name, state, instances }) => [name, state, instances]).sort(),
  ).toEqual([
    ["other", "ready", 0],
    ["test", "ready", 1],
  ]);
  expect(await nodes.get("test")).toMatchObject({ used: { vcpus: 1 }, drain: null });
  expect(await nodes.cordon("other")).toMatchObject({ state: "cordoned", labels: { gpu: "yes" } });
  expect(await nodes.drain(other.id, "move")).toMatchObject({ state: "drained", drain: "move" });
  expect(await nodes.drain("test", "stop")).toMatchObject({ state: "draining" });
  // The instances are kept and still run there: the node is not empty, and nothing empties it.
  expect(await nodes.drain("test", "keep")).toMatchObject({ state: "cordoned", drain: "keep", instances: 1 });
  expect(await nodes.drain(other.id, "keep")).toMatchObject({
    state: "drained",
    drain: "keep",
    instances: 0,
  });
  expect(await nodes.uncordon("test")).toMatchObject({ state: "ready", drain: null });
  await expect.poll(() => heard).toEqual(expect.arrayContaining([other.id, world.worker.node]));
  await expect(nodes.remove("test", { force: false })).rejects.toMatchObject({ code: "conflict" });
  await expect(nodes.get("nowhere")).rejects.toMatchObject({ code: "not_found" });
  expect(await nodes.remove("other", { force: false })).toEqual({ instances: 0, operations: 0 });
  expect(await nodes.remove("test", { force: true })).toEqual({ instances: 1, operations: 0 });
  expect(await nodes.list({ limit: 10 })).toEqual({ items: [], cursor: null });
  const status = await world.call("vm_status", { instance: "web" });
  expect(status).toMatchObject({ state: "failed", node: null });
  expect(JSON.stringify(status["error"])).toMatch(/removed by an operator/);
  clock.at += LIMITS.nodeSilentMs;
  await another(world);
  clock.at += LIMITS.nodeSilentMs;
  expect((await nodes.list({ limit: 1 })).items).toMatchObject([{ state: "silent" }]);
  const { cursor } = await nodes.list({ limit: 1 });
  expect((await nodes.list({ limit: 1, cursor: cursor ?? "" })).items).toHaveLength(1);
});
