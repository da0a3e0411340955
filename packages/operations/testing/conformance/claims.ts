// Claims: which queued operation a node gets, and what it needs by then.

import type { Operation } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { FAILURE, FREE, LEASE, NEEDS, type World } from "./world.ts";

const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

/** Which operation a claim gets. */
export function describeClaims(open: () => World): void {
  it("the oldest operation that fits is claimed, once", async () => {
    const { store, build, claim, node, clock } = open();
    const [a, b] = [build(), build()];
    await store.submit(a);
    await store.submit(b);
    const first = await claim();
    expect(first).toMatchObject({
      id: a.operation.id,
      state: "running",
      attempt: 1,
      claimed_by: node,
      lease_until: clock.now() + LEASE,
    });
    expect((await claim())?.id).toBe(b.operation.id);
    expect(await claim()).toBeNull();
  });

  it("an operation that does not fit is left for other nodes: subject, node, vcpus, memory and disk", async () => {
    const { store, build, claim, node, id } = open();
    await store.submit(build({ needs: { vcpus: 2, memory_mb: 1024, disk_gb: 10 } }));
    await store.submit(build({ node_id: id("node") }));
    const free = { vcpus: 2, memory_mb: 1024, disk_gb: 10 };
    expect(await claim({ subjects: [] })).toBeNull();
    expect(await claim({ subjects: ["pack.ship"] })).toBeNull();
    for (const less of ["vcpus", "memory_mb", "disk_gb"] as const) {
      expect(await claim({ free: { ...free, [less]: free[less] - 1 } })).toBeNull();
    }
    const mine = build({ node_id: node });
    await store.submit(mine);
    expect((await claim({ free: { ...FREE, vcpus: 1 } }))?.id).toBe(mine.operation.id);
    expect((await claim({ free }))?.needs).toEqual(free);
    expect(await claim()).toBeNull();
  });

  it("operations on one instance run one after the other, oldest first", async () => {
    const { store, ready, live, control, claim, lease } = open();
    const vm = await live(await ready());
    const a = control(vm, { input: { kind: "control", instance_id: vm, action: "start" } });
    const b = control(vm);
    await store.submit(a);
    await store.submit(b);
    expect(await claim({ free: NOTHING })).toBeNull();
    const first = (await claim()) as Operation;
    expect(first.id).toBe(a.operation.id);
    expect(await claim()).toBeNull();
    await store.settle(lease(first), { state: "completed" });
    expect((await claim())?.id).toBe(b.operation.id);
  });
}

/** What a queued operation needs when its instance changes meanwhile. */
export function describeNeeds(open: () => World): void {
  it("an operation needs what its instance does not hold, whatever its submission says", async () => {
    const { store, ready, live, control, ship, remove, node } = open();
    const build = await ready();
    const vm = await live(build);
    const { version } = await store.instance(null, vm);
    await store.observe(vm, version, { machine_id: "dep_x.1" });
    const asked = async () => {
      const actions = ["start", "restart", "resume", "stop", "pause"] as const;
      const { version } = await store.instance(null, vm);
      const requests = [
        ship(build, { instance_id: vm }),
        ...actions.map((action) =>
          control(vm, { node_id: node, input: { kind: "control", instance_id: vm, action } }),
        ),
        remove(vm, version),
      ];
      const needs: Operation["needs"][] = [];
      for (const request of requests) {
        const operation = { ...request.operation, needs: FREE };
        const { cancelOthers: _, desire: __, ...rest } = request;
        const { operation: made } = await store.submit({ ...rest, operation });
        needs.push(made.needs);
        await store.requestCancel(null, made.id);
      }
      return needs;
    };
    const { vcpus, memory_mb, disk_gb } = NEEDS;
    const compute = { vcpus, memory_mb, disk_gb: 0 };
    const nothing = [NOTHING, NOTHING, NOTHING];
    expect(await asked()).toEqual([{ ...NOTHING, disk_gb }, ...nothing, ...nothing]);
    await store.observe(vm, (await store.instance(null, vm)).version, { state: "stopped" });
    expect(await asked()).toEqual([NEEDS, compute, compute, compute, ...nothing]);
    await store.observe(vm, (await store.instance(null, vm)).version, { state: "lost" });
    // It holds what it has on its own node; a shipment may go to another.
    expect(await asked()).toEqual([NEEDS, ...nothing, ...nothing]);
  });

  it("an operation submitted while its instance ran needs its full resources once the instance holds none", async () => {
    const { store, ready, live, control, claim, clock } = open();
    const vm = await live(await ready());
    const restart = async () => {
      const { version } = await store.instance(null, vm);
      const desire = { instance_id: vm, version, desired: "running" as const };
      const asked = control(vm, { input: { kind: "control", instance_id: vm, action: "restart" } });
      return (await store.submit({ ...asked, desire })).operation;
    };
    const before = await store.instance(null, vm);
    await store.observe(vm, before.version, { machine_id: "dep_x.1" });
    const { id, needs } = await restart();
    expect(needs).toEqual(NOTHING);
    const { version } = await store.instance(null, vm);
    await store.observe(vm, version, { state: "failed", error: FAILURE });
    expect(await claim({ free: NOTHING })).toBeNull();
    const { vcpus, memory_mb } = NEEDS;
    expect(await claim({ free: { vcpus, memory_mb, disk_gb: 0 } })).toMatchObject({ id });
    clock.pass(LEASE);
    expect(await claim({ free: NOTHING })).toBeNull();
  });

  it("a replacement needs what its instance has given up meanwhile", async () => {
    const { store, ready, live, ship, claim, node } = open();
    const build = await ready();
    const vm = await live(build);
    const { version: first } = await store.instance(null, vm);
    const before = await store.observe(vm, first, { machine_id: "dep_x.1" });
    const request = ship(build, { instance_id: vm });
    await store.submit({
      ...request,
      operation: { ...request.operation, node_id: node },
      desire: { instance_id: vm, version: before.version, desired: "running" },
    });
    const { version, config } = await store.instance(null, vm);
    const resources = { ...config.resources, memory_mb: config.resources.memory_mb - 100 };
    await store.observe(vm, version, { config: { ...config, resources } });
    const { disk_gb } = NEEDS;
    expect(await claim({ free: { ...NOTHING, disk_gb } })).toBeNull();
    expect((await claim({ free: { ...NOTHING, memory_mb: 100, disk_gb } }))?.id).toBe(request.operation.id);
  });

  it("an operation given back before its instance has a machine needs as much as before", async () => {
    const { store, ready, ship, claim, clock, lease } = open();
    const request = ship(await ready());
    await store.submit(request);
    const first = (await claim()) as Operation;
    await store.apply(lease(first), {
      instances: [{ id: request.deployment.instance_id, patch: { state: "starting" } }],
    });
    clock.pass(LEASE);
    expect(await claim({ free: { ...FREE, vcpus: 0 } })).toBeNull();
    expect(await claim()).toMatchObject({ attempt: 2, needs: NEEDS });
  });
}
