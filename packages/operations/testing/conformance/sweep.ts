// The sweep: every operation ends, stranded ones are sent again, expired records go, used ones stay.

import { LIMITS, type Operation } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { FAILURE, HOUR, LEASE, MINUTE, OWNER, refused, SWEEP, type World } from "./world.ts";

/** Operations that wait too long or whose worker is gone. */
export function describeStranded(open: () => World): void {
  it("a queued operation is woken again when its wake-up may be lost, and says what it waits for", async () => {
    const { store, build, clock } = open();
    const request = build();
    await store.submit(request);
    clock.pass(SWEEP.strandedMs - 1);
    expect((await store.sweep(SWEEP)).resend).toEqual([]);
    clock.pass(1);
    const { resend, changed } = await store.sweep(SWEEP);
    expect(changed).toEqual([]);
    expect(resend).toEqual([await store.operation(OWNER, request.operation.id)]);
    expect(resend[0]).toMatchObject({ send: 2, sent_at: clock.now(), progress: { step: "queued" } });
    expect(resend[0]?.progress?.message).toMatch(/none is running/);
    expect((await store.sweep(SWEEP)).resend).toEqual([]);
  });

  it("an operation that no node can take says so while it is queued and when it fails", async () => {
    const { store, build, clock, node } = open();
    const register = () =>
      store.registerNode({
        id: node,
        name: "here",
        labels: {},
        capacity: { vcpus: 4, memory_mb: 4096, disk_gb: 50 },
        engine: { builder: "fake", hypervisor: "fake", accelerator: "tcg", profile: "user" },
        pid: 7,
        program: "1.0.0",
        draining: false,
      });
    await register();
    const request = build({ needs: { vcpus: 16, memory_mb: 512, disk_gb: 5 } });
    await store.submit(request);
    clock.pass(MINUTE);
    const [waiting] = (await store.sweep(SWEEP)).resend;
    expect(waiting?.progress?.message).toMatch(/16 vCPUs.*the largest has 4 vCPUs/);
    clock.pass(24 * HOUR);
    await register();
    const { changed } = await store.sweep(SWEEP);
    expect(changed).toMatchObject([
      { id: request.operation.id, state: "failed", error: { code: "unavailable" } },
    ]);
    expect(changed[0]?.error?.message).toMatch(/16 vCPUs.*the largest has 4 vCPUs/);
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "failed" });
  });

  it("an operation whose worker fell silent is given back and woken, until its attempts are used up", async () => {
    const { store, ready, ship, claim, lease, clock } = open();
    const request = ship(await ready());
    const { id } = request.deployment;
    await store.submit(request);
    for (let attempt = 1; attempt <= LIMITS.attempts; attempt++) {
      const running = (await claim()) as Operation;
      expect(running.attempt).toBe(attempt);
      await store.apply(lease(running), { deployments: [{ id, patch: { state: "deploying" } }] });
      clock.pass(LEASE - 1);
      expect((await store.sweep(SWEEP)).changed).toEqual([]);
      clock.pass(1);
      const { changed, resend } = await store.sweep(SWEEP);
      const last = attempt === LIMITS.attempts;
      expect(changed).toMatchObject([{ id: request.operation.id, state: last ? "failed" : "queued" }]);
      expect(resend.length).toBe(last ? 0 : 1);
      expect(await store.deployment(OWNER, id)).toMatchObject({ state: last ? "failed" : "queued" });
    }
    const { error } = await store.operation(OWNER, request.operation.id);
    expect(error?.message).toMatch(/3 times without an answer/);
    const failed = { state: "failed", error };
    expect(await store.deployment(OWNER, id)).toMatchObject(failed);
    expect(await store.instance(OWNER, request.deployment.instance_id)).toMatchObject(failed);
    expect(await claim()).toBeNull();
  });

  it("a cancelled operation whose worker fell silent is cancelled", async () => {
    const { store, build, claim, clock } = open();
    await store.submit(build());
    const { id } = (await claim()) as Operation;
    await store.requestCancel(OWNER, id);
    clock.pass(LEASE);
    expect(await claim()).toBeNull();
    expect((await store.sweep(SWEEP)).changed).toMatchObject([{ id, state: "cancelled" }]);
  });
}

/** Operations beyond their deadline. */
export function describeDeadlines(open: () => World): void {
  it("an operation past its deadline is asked to cancel, and fails even if its worker renews for ever", async () => {
    const { store, build, claim, lease, clock } = open();
    await store.submit(build({ deadline_at: clock.now() + MINUTE }));
    const running = (await claim()) as Operation;
    const held = lease(running);
    for (let i = 0; i < 5; i++) {
      clock.pass(LEASE / 2);
      await store.renew(held, LEASE).catch(() => undefined);
    }
    expect((await store.operation(OWNER, running.id)).cancel_requested_at).not.toBeNull();
    await store.sweep(SWEEP);
    clock.pass(LEASE);
    await refused(store.renew(held, LEASE), "conflict");
    await store.sweep(SWEEP);
    const ended = await store.operation(OWNER, running.id);
    expect(ended).toMatchObject({ state: "failed", error: { code: "unavailable" } });
  });

  it("the sweep asks a worker with a live lease to end what passed its deadline", async () => {
    const { store, build, claim, clock } = open();
    await store.submit(build({ deadline_at: clock.now() + MINUTE }));
    const { id } = (await claim({ leaseMs: HOUR })) as Operation;
    clock.pass(MINUTE);
    await store.sweep(SWEEP);
    expect(await store.operation(OWNER, id)).toMatchObject({
      state: "running",
      cancel_requested_at: clock.now(),
    });
  });
}

/** Records that are kept long enough and then removed. */
export function describeExpired(open: () => World): void {
  it("an operation is removed when it was kept long enough, its build stays", async () => {
    const { store, build, claim, lease, clock } = open();
    const request = build();
    await store.submit(request);
    const running = (await claim()) as Operation;
    await store.settle(lease(running), { state: "failed", error: FAILURE });
    clock.pass(SWEEP.operationKeptMs - 1);
    expect((await store.sweep(SWEEP)).removedOperations).toBe(0);
    clock.pass(1);
    expect((await store.sweep(SWEEP)).removedOperations).toBe(1);
    await refused(store.operation(OWNER, running.id), "not_found");
    expect(await store.operationFor(request.build.id)).toBeNull();
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "failed", error: FAILURE });
  });

  it("more operations than a batch are removed in one sweep", async () => {
    const { store, build, clock } = open();
    for (let i = 0; i < 1100; i++) {
      const request = build();
      await store.submit(request);
      await store.requestCancel(OWNER, request.operation.id);
    }
    clock.pass(HOUR);
    expect((await store.sweep(SWEEP)).removedOperations).toBe(1100);
  }, 60_000);

  it("a build goes when nothing has used it for its time; one that an instance is made of stays", async () => {
    const { store, ready, live, remove, claim, lease, clock } = open();
    const [unused, used] = [await ready(), await ready()];
    const vm = await live(used);
    clock.pass(SWEEP.unusedBuildKeptMs);
    const { removedBuilds } = await store.sweep(SWEEP);
    expect(removedBuilds.map(({ id }) => id)).toEqual([unused]);
    await refused(store.build(OWNER, unused), "not_found");
    const { version } = await store.instance(OWNER, vm);
    await store.submit(remove(vm, version));
    await store.settle(
      lease((await claim()) as Operation),
      { state: "completed" },
      { instances: [{ id: vm, patch: { state: "deleted" } }] },
    );
    clock.pass(HOUR);
    expect((await store.sweep(SWEEP)).removedBuilds).toEqual([]);
    clock.pass(SWEEP.unusedBuildKeptMs);
    expect((await store.sweep(SWEEP)).removedBuilds).toMatchObject([{ id: used }]);
  });

  it("a deleted instance goes with its deployments", async () => {
    const { store, ready, ship, clock } = open();
    const request = ship(await ready());
    await store.submit(request);
    await store.requestCancel(OWNER, request.operation.id);
    await store.sweep(SWEEP);
    expect(await store.instance(OWNER, request.deployment.instance_id)).toMatchObject({ state: "deleted" });
    clock.pass(HOUR);
    await store.sweep(SWEEP);
    await refused(store.instance(OWNER, request.deployment.instance_id), "not_found");
    await refused(store.deployment(OWNER, request.deployment.id), "not_found");
  });
}
