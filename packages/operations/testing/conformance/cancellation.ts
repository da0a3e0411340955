// Cancellation: a queued operation ends at once with its records, a running one is asked to end.

import type { Operation } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { FAILURE, OWNER, refused, type World } from "./world.ts";

/** Cancel requests, and deletes, which cancel other operations. */
export function describeCancellation(open: () => World): void {
  it("a queued build is cancelled at once, with its record, once", async () => {
    const { store, build, claim } = open();
    const request = build();
    await store.submit(request);
    const cancelled = await store.requestCancel(OWNER, request.operation.id);
    expect(cancelled).toMatchObject({ state: "cancelled", error: { code: "cancelled" } });
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "cancelled" });
    expect(await store.requestCancel(OWNER, request.operation.id)).toEqual(cancelled);
    expect(await claim()).toBeNull();
  });

  it("an instance that never was is gone when its only deployment is cancelled", async () => {
    const { store, ready, ship } = open();
    const request = ship(await ready());
    await store.submit(request);
    await store.requestCancel(OWNER, request.operation.id);
    expect(await store.deployment(OWNER, request.deployment.id)).toMatchObject({ state: "cancelled" });
    expect(await store.instance(OWNER, request.deployment.instance_id)).toMatchObject({
      state: "deleted",
      desired: "deleted",
    });
    expect(await store.instanceByName(OWNER, "web")).toBeNull();
  });

  it("a running operation is asked to end, and says when it was first asked", async () => {
    const { store, build, claim, lease, clock } = open();
    await store.submit(build());
    const running = (await claim()) as Operation;
    const asked = await store.requestCancel(OWNER, running.id);
    expect(asked).toMatchObject({ state: "running", cancel_requested_at: clock.now() });
    clock.pass(5);
    expect(await store.requestCancel(OWNER, running.id)).toEqual(asked);
    const renewed = await store.renew(lease(running), 1000);
    expect(renewed.cancel_requested_at).toBe(asked.cancel_requested_at);
    const error = { code: "cancelled" as const, message: "Stopped." };
    const ended = await store.settle(lease(running), { state: "cancelled", error });
    expect(ended).toMatchObject({ state: "cancelled", error });
  });

  it("an operation given back after it was asked to cancel is cancelled", async () => {
    const { store, build, claim, lease, clock } = open();
    const request = build();
    await store.submit(request);
    const running = (await claim()) as Operation;
    await store.requestCancel(OWNER, running.id);
    await store.settle(lease(running), { state: "queued", run_at: clock.now(), error: FAILURE });
    expect(await store.operation(OWNER, running.id)).toMatchObject({ state: "cancelled" });
    expect(await store.build(OWNER, request.build.id)).toMatchObject({ state: "cancelled" });
  });

  it("cancelling an operation restores the desired state, unless a younger operation has set it again", async () => {
    const { store, ready, live, control } = open();
    const vm = await live(await ready());
    const ask = async (desired: "stopped" | "running" | "paused") => {
      const { version } = await store.instance(OWNER, vm);
      const desire = { instance_id: vm, version, desired };
      return (await store.submit({ ...control(vm), desire })).operation.id;
    };
    const desired = async () => (await store.instance(OWNER, vm)).desired;
    const stop = await ask("stopped");
    const pause = await ask("paused");
    await store.requestCancel(OWNER, stop);
    expect(await desired()).toBe("paused");
    await store.requestCancel(OWNER, pause);
    expect(await desired()).toBe("running");
  });

  it("a delete cancels what waits and asks what runs, and follows when that ended", async () => {
    const { store, ready, live, control, remove, claim, lease } = open();
    const vm = await live(await ready());
    await store.submit(control(vm));
    const running = (await claim()) as Operation;
    const waiting = control(vm);
    await store.submit(waiting);
    const { version } = await store.instance(OWNER, vm);
    const { operation } = await store.submit(remove(vm, version));
    expect(await store.operation(OWNER, waiting.operation.id)).toMatchObject({ state: "cancelled" });
    expect((await store.operation(OWNER, running.id)).cancel_requested_at).not.toBeNull();
    expect(await store.instance(OWNER, vm)).toMatchObject({ desired: "deleted" });
    expect(await claim()).toBeNull();
    await store.settle(lease(running), { state: "completed" });
    expect((await claim())?.id).toBe(operation.id);
  });

  it("deleting an instance that never was is done at once", async () => {
    const { store, ready, ship, remove, claim } = open();
    const request = ship(await ready());
    await store.submit(request);
    const vm = request.deployment.instance_id;
    const { version } = await store.instance(OWNER, vm);
    const { operation } = await store.submit(remove(vm, version));
    expect(operation).toMatchObject({ state: "completed" });
    expect(await store.instance(OWNER, vm)).toMatchObject({ state: "deleted" });
    expect(await claim()).toBeNull();
    await refused(store.submit(remove(request.deployment.instance_id, version)), "conflict");
  });
}
