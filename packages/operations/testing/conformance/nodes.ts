// Nodes: which operations one is given, what becomes of the instances of a silent one, and what a removed one
// leaves.

import { type Id, LIMITS, type NodeRecord, type Operation } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import fc from "fast-check";
import { expect, it } from "vitest";
import { FAILURE, LEASE, OWNER, refused, SWEEP, type World } from "./world.ts";

const SILENT = LIMITS.nodeSilentMs;
type Registration = Parameters<Store["registerNode"]>[0];

function registration(id: Id<"node">, over: Partial<Registration> = {}): Registration {
  return {
    id,
    name: "one",
    labels: {},
    capacity: { vcpus: 8, memory_mb: 16_384, disk_gb: 100 },
    engine: { builder: "fake 1", hypervisor: "fake 1", accelerator: "tcg", profile: "user" },
    pid: 1,
    program: "1.0.0",
    draining: false,
    ...over,
  };
}

const register = ({ store, node }: World, over: Partial<Registration> = {}): Promise<NodeRecord> =>
  store.registerNode(registration(node, over));

/** A machine that runs: `live` writes none. */
async function machine(world: World, name?: string): Promise<Id<"vm">> {
  const vm = await world.live(await world.ready(), name);
  const { version } = await world.store.instance(null, vm);
  await world.store.observe(vm, version, { machine_id: "dep_x.1" });
  return vm;
}

const states = ["running", "paused", "stopped", "stopping", "failed", "deleting"] as const;

/** Labels: an operation goes only to a node that has all of them. */
export function describeLabels(open: () => World): void {
  it("an operation goes only to a node that has all the labels it asks for, with the same values", async () => {
    const { store, build, claim } = open();
    const labels = { zone: "eu-1", gpu: "yes" };
    const asked = build({ labels });
    expect((await store.submit(asked)).operation.labels).toEqual(labels);
    for (const less of [
      {},
      { zone: "eu-1" },
      { ...labels, gpu: "no" },
      { ...labels, gpu: "yess" },
      { gpu: "eu-1", zone: "yes" },
    ]) {
      expect(await claim({ labels: less })).toBeNull();
    }
    const got = await claim({ labels: { gpu: "yes", rack: "7", zone: "eu-1" } });
    expect(got).toMatchObject({ id: asked.operation.id, labels });
    expect((await store.operation(OWNER, asked.operation.id)).labels).toEqual(labels);
  });

  it("for any labels, an operation fits a node exactly if the node has them all", async () => {
    const { store, build, claim, lease } = open();
    const label = fc.dictionary(fc.constantFrom("a", "ab", "b", "a/b"), fc.constantFrom("", "1", "11", "b"), {
      maxKeys: 3,
    });
    await fc.assert(
      fc.asyncProperty(label, label, async (wanted, has) => {
        const request = build({ labels: wanted });
        await store.submit(request);
        const fits = Object.entries(wanted).every(([key, value]) => has[key] === value);
        const got = await claim({ labels: has });
        expect(got?.id).toBe(fits ? request.operation.id : undefined);
        if (got) await store.settle(lease(got), { state: "failed", error: FAILURE });
        else await store.requestCancel(OWNER, request.operation.id);
      }),
      { numRuns: 40 },
    );
  });

  it("invalid labels are refused", async () => {
    const { store, build } = open();
    for (const labels of [{ "a|b": "c" }, { a: "b|" }, { "": "a" }, { A: "b" }, { a: "b=c'" }]) {
      await refused(store.submit(build({ labels: labels as Record<string, string> })), "invalid");
    }
  });
}

/** What a node may be given, and what it is told to hold. */
export function describeNodeState(open: () => World): void {
  it("a heartbeat changes neither cordon nor drain", async () => {
    const world = open();
    const { store, node, clock } = world;
    expect(await register(world)).toMatchObject({ cordoned: false, drain: null, heartbeat_at: clock.now() });
    expect(await store.setNodeScheduling(node, { cordoned: true, drain: "move" })).toMatchObject({
      drain: "move",
    });
    clock.pass(1000);
    const labels = { gpu: "yes" };
    const now = await register(world, { labels, draining: true });
    expect(now).toMatchObject({
      cordoned: true,
      drain: "move",
      draining: true,
      labels,
      heartbeat_at: clock.now(),
    });
    expect(await store.nodes()).toEqual([now]);
    await refused(store.setNodeScheduling(world.id("node"), { cordoned: true, drain: null }), "not_found");
  });

  it("a cordoned node is given what is pinned to it, and nothing else", async () => {
    const world = open();
    const { store, build, claim, node } = world;
    await register(world);
    await store.setNodeScheduling(node, { cordoned: true, drain: null });
    await store.submit(build());
    const pinned = build({ node_id: node });
    await store.submit(pinned);
    expect((await claim())?.id).toBe(pinned.operation.id);
    expect(await claim()).toBeNull();
    await store.setNodeScheduling(node, { cordoned: false, drain: null });
    expect(await claim()).not.toBeNull();
  });

  it("a queued operation says what it needs and what the largest node offers, and names no node", async () => {
    const world = open();
    const { store, build, clock, id } = world;
    await register(world, { name: "secret-one" });
    const needs = { vcpus: 9, memory_mb: 512, disk_gb: 5 };
    const [large, labelled, pinned] = [
      build({ needs }),
      build({ labels: { gpu: "yes" } }),
      build({ node_id: id("node") }),
    ];
    for (const request of [large, labelled, pinned]) await store.submit(request);
    clock.pass(SWEEP.strandedMs);
    await store.sweep(SWEEP);
    const said = async ({ operation }: typeof large) =>
      (await store.operation(OWNER, operation.id)).progress?.message;
    expect(await said(large)).toMatch(/9 vCPUs, 512 MB .* largest has 8 vCPUs, 16384 MB/);
    expect(await said(labelled)).toMatch(/label gpu=yes: there is none/);
    expect(await said(pinned)).toMatch(/was removed/);
    for (const request of [large, labelled, pinned]) expect(await said(request)).not.toContain("secret-one");
  });

  it("a node's use counts the disks of its machines, and CPU and memory of those that may run", async () => {
    const world = open();
    const { store, node } = world;
    await register(world);
    expect(await store.nodeUse()).toEqual([]);
    const [running, stopped] = [await machine(world, "a"), await machine(world, "b")];
    await world.live(await world.ready(), "nowhere");
    await store.observe(stopped, (await store.instance(null, stopped)).version, { state: "stopped" });
    const { vcpus, memory_mb, disk_gb } = (await store.instance(null, running)).config.resources;
    expect(await store.nodeUse()).toEqual([
      { node_id: node, instances: 2, vcpus, memory_mb, disk_gb: 2 * disk_gb },
    ]);
  });
}

/** What becomes of the instances of a node that stopped reporting. */
export function describeSilentNodes(open: () => World): void {
  it("the instances of a node that fell silent are lost, once, and say since when", async () => {
    const world = open();
    const { store, clock } = world;
    await register(world);
    const vm = await machine(world);
    const heard = clock.now();
    clock.pass(SILENT - 1);
    expect(await store.markLost(SILENT)).toEqual([]);
    clock.pass(1);
    const [lost, ...others] = await store.markLost(SILENT);
    expect(others).toEqual([]);
    expect(lost).toMatchObject({ id: vm, state: "lost", desired: "running", error: { code: "unavailable" } });
    expect(lost?.error?.message).toContain(new Date(heard).toISOString());
    expect(await store.markLost(SILENT)).toEqual([]);
    await register(world);
    const back = await store.observe(vm, lost?.version ?? 0, { state: "running", error: null });
    expect(back).toMatchObject({ state: "running", error: null });
    expect(await store.markLost(SILENT)).toEqual([]);
  });

  it("what a silent node can't be wrong about stays: failed, half deleted, never there, worked on elsewhere", async () => {
    const world = open();
    const { store, clock, ship, ready, claim } = world;
    await register(world);
    const build = await ready();
    const kept = new Map<Id<"vm">, string>();
    for (const state of ["failed", "deleting"] as const) {
      const vm = await machine(world, state);
      await store.observe(vm, (await store.instance(null, vm)).version, { state });
      kept.set(vm, state);
    }
    const nowhere = await world.live(build, "nowhere");
    kept.set(nowhere, "running");
    const replaced = await machine(world, "replaced");
    clock.pass(SILENT);
    await store.submit(ship(build, { instance_id: replaced }));
    expect(await claim({ node_id: world.id("node") })).not.toBeNull();
    kept.set(replaced, "running");
    expect(await store.markLost(SILENT)).toEqual([]);
    for (const [vm, state] of kept) expect((await store.instance(null, vm)).state).toBe(state);
  });
}

/** What removing a node does to its instances and operations. */
export function describeRemovedNodes(open: () => World): void {
  it("a node is removed when nothing is on it; what it is pinned for fails and says so", async () => {
    const world = open();
    const { store, node, build } = world;
    await register(world);
    await refused(store.removeNode(world.id("node"), { force: true }), "not_found");
    const pinned = build({ node_id: node });
    await store.submit(pinned);
    await refused(store.removeNode(node, { force: false }), "conflict");
    await store.requestCancel(OWNER, pinned.operation.id);
    expect(await store.removeNode(node, { force: false })).toEqual({ instances: [], operations: [] });
    expect(await store.nodes()).toEqual([]);
    expect(await store.node(node)).toBeNull();
    await refused(store.setNodeScheduling(node, { cordoned: false, drain: null }), "not_found");
    await refused(store.removeNode(node, { force: true }), "not_found");
  });

  it("a removed node that registers again is given nothing until an admin uncordons it", async () => {
    const world = open();
    const { store, node, build, claim } = world;
    await register(world);
    await store.setNodeScheduling(node, { cordoned: false, drain: "stop" });
    await store.removeNode(node, { force: false });
    const { operation } = await store.submit(build());
    expect(await claim()).toBeNull();
    expect(await register(world)).toMatchObject({ cordoned: true, drain: null });
    expect(await store.node(node)).toMatchObject({ id: node, cordoned: true });
    expect(await claim()).toBeNull();
    await store.setNodeScheduling(node, { cordoned: false, drain: null });
    expect(await register(world)).toMatchObject({ cordoned: false });
    expect((await claim())?.id).toBe(operation.id);
  });

  it.each(states)(
    "by force, an instance that is %s is failed and says why, or deleted if that was wanted",
    async (state) => {
      const world = open();
      const { store, node, control, claim } = world;
      await register(world);
      const [vm, unwanted] = [await machine(world, "a"), await machine(world, "b")];
      for (const id of [vm, unwanted]) {
        await store.observe(id, (await store.instance(null, id)).version, { state });
      }
      await store.observe(unwanted, (await store.instance(null, unwanted)).version, { desired: "deleted" });
      const pinned = control(vm, { node_id: node });
      await store.submit(pinned);
      expect(await claim()).toMatchObject({ id: pinned.operation.id });
      await refused(store.removeNode(node, { force: false }), "conflict");
      const gone = await store.removeNode(node, { force: true });
      expect(gone.instances.map(({ id }) => id).sort()).toEqual([vm, unwanted].sort());
      const nothing = { node_id: null, machine_id: null, observed: null };
      const why = { code: "unavailable", message: expect.stringContaining("removed by an operator") };
      expect(await store.instance(OWNER, vm)).toMatchObject({ ...nothing, state: "failed", error: why });
      expect(await store.instance(OWNER, unwanted)).toMatchObject({
        ...nothing,
        state: "deleted",
        error: null,
      });
      expect(gone.operations).toMatchObject([{ id: pinned.operation.id, state: "failed", error: why }]);
      expect(await store.markLost(SILENT)).toEqual([]);
    },
  );

  it("a delete that waited for a removed node is done", async () => {
    const world = open();
    const { store, node, remove, clock } = world;
    await register(world);
    const vm = await machine(world);
    clock.pass(SILENT);
    const [lost] = await store.markLost(SILENT);
    const request = remove(vm, lost?.version ?? 0);
    request.operation.node_id = node;
    await store.submit(request);
    expect(await store.instance(OWNER, vm)).toMatchObject({ state: "lost", desired: "deleted" });
    await store.removeNode(node, { force: true });
    expect(await store.operation(OWNER, request.operation.id)).toMatchObject({ state: "completed" });
    expect(await store.instance(OWNER, vm)).toMatchObject({ state: "deleted" });
  });

  it("an operation that a removed node ran is tried on another node, after its lease", async () => {
    const world = open();
    const { store, node, build, claim, lease, clock, id } = world;
    await register(world);
    await store.submit(build());
    const held = (await claim()) as Operation;
    const gone = await store.removeNode(node, { force: true });
    expect(gone.operations).toMatchObject([{ id: held.id, state: "queued", attempt: 1 }]);
    await refused(store.renew(lease(held), LEASE), "conflict");
    const other = id("node");
    clock.pass(LEASE - 1);
    expect(await claim({ node_id: other })).toBeNull();
    clock.pass(1);
    expect(await claim({ node_id: other })).toMatchObject({ id: held.id, attempt: 2, claimed_by: other });
  });
}
