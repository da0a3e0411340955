// Leases: what the holder may write, until when, and what the end of an attempt does.

import { LIMITS, type Operation } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { FAILURE, LEASE, MINUTE, OWNER, refused, type World } from "./world.ts";

/** What the holder of a lease may do, and until when. */
export function describeLeases(open: () => World): void {
  it("a lease is renewed by its holder alone, and void for ever once it ran out", async () => {
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
}

/** What the end of an attempt does to the operation and its records. */
export function describeOutcomes(open: () => World): void {
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
