// Laws of working: who gets an operation, what its lease allows, and how an attempt ends.

import { LIMITS, type Operation } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { FAILURE, FREE, LEASE, MINUTE, NEEDS, OWNER, refused, type World } from "./world.ts";

const NOTHING = { vcpus: 0, memory_mb: 0, disk_gb: 0 };

export function leaseLaws(open: () => World): void {
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

  it("what does not fit is left to others: subject, node, vcpus, memory and disk", async () => {
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

  it("what was asked for while its instance ran needs all of it again once that holds nothing", async () => {
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

  it("what is to replace an instance needs what that has given up meanwhile", async () => {
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

  it("what is given back before its instance has a machine needs as much as before", async () => {
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

  it("a lease is prolonged by its holder alone, and void for ever once it ran out", async () => {
    const { store, build, claim, lease, clock, id } = open();
    await store.submit(build());
    const held = lease((await claim()) as Operation);
    clock.pass(LEASE - 1);
    expect((await store.renew(held, LEASE)).lease_until).toBe(clock.now() + LEASE);
    await refused(store.renew({ ...held, node_id: id("node") }, LEASE), "conflict");
    await refused(store.renew({ ...held, attempt: 2 }, LEASE), "conflict");
    await refused(store.renew({ ...held, operation_id: id("op") }, LEASE), "not_found");
    clock.pass(LEASE);
    await refused(store.renew(held, LEASE), "conflict");
    const second = (await claim()) as Operation;
    expect(second.attempt).toBe(2);
    await refused(store.renew(held, LEASE), "conflict");
  });

  it("nothing is written through a void lease", async () => {
    const { store, build, claim, lease, clock } = open();
    const request = build();
    await store.submit(request);
    const held = lease((await claim()) as Operation);
    clock.pass(LEASE);
    const before = await store.build(OWNER, request.build.id);
    const changes = { builds: [{ id: request.build.id, patch: { state: "building" as const } }] };
    await refused(store.report(held, { step: "pull", message: "Pulling.", fraction: 0.5 }), "conflict");
    await refused(store.apply(held, changes), "conflict");
    await refused(store.settle(held, { state: "failed", error: FAILURE }, changes), "conflict");
    expect(await store.build(OWNER, request.build.id)).toEqual(before);
    const second = (await claim()) as Operation;
    expect(second).toMatchObject({ attempt: 2, progress: null });
    await refused(store.settle(held, { state: "failed", error: FAILURE }), "conflict");
    await store.settle(lease(second), { state: "failed", error: FAILURE });
    await refused(store.settle(lease(second), { state: "failed", error: FAILURE }), "conflict");
  });

  it("progress is shown with its time", async () => {
    const { store, build, claim, lease, clock } = open();
    await store.submit(build());
    const running = (await claim()) as Operation;
    await store.report(lease(running), { step: "run 1/2", message: "Running.", fraction: 0.25 });
    const { progress } = await store.operation(OWNER, running.id);
    expect(progress).toEqual({ step: "run 1/2", message: "Running.", fraction: 0.25, at: clock.now() });
  });

  it("an attempt and its records end together, or not at all", async () => {
    const { store, build, claim, lease, clock } = open();
    const request = build();
    await store.submit(request);
    const held = lease((await claim()) as Operation);
    const to = (state: "building" | "ready") => ({ builds: [{ id: request.build.id, patch: { state } }] });
    await refused(store.settle(held, { state: "completed" }, to("ready")), "conflict");
    await refused(store.settle(held, { state: "completed" }, to("building")), "conflict");
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "queued" });
    await store.apply(held, to("building"));
    const ended = await store.settle(held, { state: "completed" }, to("ready"));
    expect(ended).toMatchObject({ state: "completed", error: null, claimed_by: null, lease_until: null });
    expect(ended.ended_at).toBe(clock.now());
    expect(ended.expires_at).toBe(clock.now() + LIMITS.operationKeptMs);
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "ready" });
  });

  it("records of a failed operation fail with it and say why", async () => {
    const { store, ready, ship, claim, lease } = open();
    const request = ship(await ready());
    await store.submit(request);
    const held = lease((await claim()) as Operation);
    await store.apply(held, { deployments: [{ id: request.deployment.id, patch: { state: "deploying" } }] });
    await store.settle(held, { state: "failed", error: FAILURE });
    const failed = { state: "failed", error: FAILURE };
    expect(await store.deployment(OWNER, request.deployment.id)).toMatchObject(failed);
    expect(await store.instance(OWNER, request.deployment.instance_id)).toMatchObject(failed);
  });

  it("a failed deployment leaves an instance that ran as it was", async () => {
    const { store, ready, ship, live, claim, lease } = open();
    const build = await ready();
    const vm = await live(build);
    const before = await store.instance(OWNER, vm);
    await store.submit(ship(build, { instance_id: vm }));
    const held = lease((await claim()) as Operation);
    await store.settle(held, { state: "failed", error: FAILURE });
    expect(await store.instance(OWNER, vm)).toEqual(before);
  });

  it("an operation given back waits for its time, and its records wait with it", async () => {
    const { store, build, claim, lease, clock } = open();
    const request = build();
    await store.submit(request);
    const held = lease((await claim()) as Operation);
    await store.apply(held, { builds: [{ id: request.build.id, patch: { state: "building" } }] });
    const run_at = clock.now() + MINUTE;
    const queued = await store.settle(held, { state: "queued", run_at, error: FAILURE });
    expect(queued).toMatchObject({ state: "queued", attempt: 1, run_at, error: FAILURE, claimed_by: null });
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "queued" });
    clock.pass(MINUTE - 1);
    expect(await claim()).toBeNull();
    clock.pass(1);
    expect(await claim()).toMatchObject({ attempt: 2, error: null });
  });

  it("the last attempt is not given back but fails with what it said", async () => {
    const { store, build, claim, lease, clock } = open();
    const request = build();
    await store.submit(request);
    for (let attempt = 1; attempt <= LIMITS.attempts; attempt++) {
      const running = (await claim()) as Operation;
      expect(running.attempt).toBe(attempt);
      await store.settle(lease(running), { state: "queued", run_at: clock.now(), error: FAILURE });
    }
    expect(await claim()).toBeNull();
    const failed = { state: "failed", error: FAILURE };
    expect(await store.operation(OWNER, request.operation.id)).toMatchObject(failed);
    expect(await store.build(OWNER, request.build.id)).toMatchObject(failed);
  });

  it("another owner's records are out of an attempt's reach", async () => {
    const { store, build, claim, lease, ready } = open();
    const theirs = await ready("other");
    await store.submit(build());
    const held = lease((await claim()) as Operation);
    await refused(store.apply(held, { builds: [{ id: theirs, patch: { used_at: 0 } }] }), "not_found");
  });
}
