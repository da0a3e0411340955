import { FormationError, type Operation } from "@formation-mcp/contract";
import type { Lease, Store } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";
import { aborted } from "./support/scripted-drivers.ts";

/** The store of a worker that a test can cut off. */
function cut(store: Store, isCut: () => boolean): Store {
  const unavailable = () => Promise.reject(new FormationError("unavailable", "Cut off."));
  return {
    ...store,
    renew: (lease, ms) => (isCut() ? unavailable() : store.renew(lease, ms)),
    operation: (owner, id) => (isCut() ? unavailable() : store.operation(owner, id)),
    settle: (lease, outcome, changes) => (isCut() ? unavailable() : store.settle(lease, outcome, changes)),
  };
}

const LEASE = { leaseMs: 900 };

test("a worker that can't renew for half its lease kills what it started and leaves the record alone", async () => {
  await using lab = await openLab();
  let isCut = false;
  const settles: { lease: Lease; cut: boolean }[] = [];
  const store = cut(lab.store, () => isCut);
  const watched: Store = {
    ...store,
    settle: (lease, outcome, changes) => {
      settles.push({ lease, cut: isCut });
      return store.settle(lease, outcome, changes);
    },
  };
  await lab.worker({ store: watched, settings: LEASE });
  let killed = 0;
  lab.hypervisor.on.waitLive = async (id, signal) => {
    if (!id.endsWith(".1")) return;
    isCut = true;
    await aborted(signal).finally(() => {
      killed = performance.now();
    });
  };
  const { deployment, instance, operation } = await lab.ask.create();
  await expect.poll(() => lab.hypervisor.calls, { timeout: 10_000 }).toContain(`remove ${deployment}.1`);
  expect(killed).toBeGreaterThan(0);
  expect(lab.hypervisor.machines.size).toBe(0);
  expect(await lab.store.operation(null, operation.id)).toMatchObject({ state: "running", attempt: 1 });
  expect(settles).toEqual([]);
  isCut = false;
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect(await lab.instance(instance)).toMatchObject({ state: "running", machine_id: `${deployment}.2` });
  expect([...lab.hypervisor.machines.keys()]).toEqual([`${deployment}.2`]);
  expect(lab.hypervisor.mostRunning).toBe(1);
});

test("one failed renewal does not end an attempt", async () => {
  await using lab = await openLab();
  let failures = 2;
  const store = cut(lab.store, () => failures-- > 0);
  await lab.worker({
    store: { ...store, operation: lab.store.operation, settle: lab.store.settle },
    settings: LEASE,
  });
  lab.builder.script = [() => new Promise((resolve) => setTimeout(resolve, LEASE.leaseMs))];
  const { operation } = await lab.ask.build();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 1 });
  expect(failures).toBeLessThan(0);
});

test("a worker whose clock says that it slept too long ends its attempts", async () => {
  await using lab = await openLab();
  let asleep = 0;
  await lab.worker({ monotonic: () => performance.now() + asleep, settings: LEASE });
  const aborts: string[] = [];
  lab.builder.script = [
    async (request, hooks) => {
      asleep = 60_000;
      await aborted(hooks.signal).finally(() => aborts.push(request.id));
    },
  ];
  const { build, operation } = await lab.ask.build();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect(aborts).toEqual([`${build}.1`]);
});

test("a machine that takes longer than a lease to become live runs on, because the lease is renewed", async () => {
  await using lab = await openLab();
  await lab.worker({ settings: LEASE });
  lab.hypervisor.on.waitLive = () => new Promise((resolve) => setTimeout(resolve, LEASE.leaseMs * 2));
  const { operation } = await lab.ask.create();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 1 });
  await expect.poll(() => lab.hypervisor.leashes.size).toBe(0);
});

test("a worker that slept while its claim was answered does not run the operation", async () => {
  await using lab = await openLab();
  let asleep = 0;
  const claim: Store["claim"] = async (request) => {
    const claimed = await lab.store.claim(request);
    if (claimed?.attempt === 1) asleep += LEASE.leaseMs;
    return claimed;
  };
  const store = { ...lab.store, claim };
  await lab.worker({ store, monotonic: () => performance.now() + asleep, settings: LEASE });
  const { build, operation } = await lab.ask.build();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect(lab.builder.requests.map(({ id }) => id)).toEqual([`${build}.2`]);
});

test("an outcome that was written counts even if the answer was lost: the new machine stays, the replaced one is removed", async () => {
  await using lab = await openLab();
  const former = await lab.ask.create();
  let lose = false;
  const settle: Store["settle"] = async (...given) => {
    const settled = await lab.store.settle(...given);
    if (!lose) return settled;
    lose = false;
    throw new FormationError("unavailable", "The answer was lost.");
  };
  await lab.worker({ store: { ...lab.store, settle }, settings: { ...LEASE, reconcileEveryMs: 3_600_000 } });
  await lab.ended(former.operation);
  lose = true;
  const again = await lab.ask.ship(former.build, { replace: former.instance });
  expect(await lab.ended(again.operation)).toMatchObject({ state: "completed", attempt: 1 });
  await expect.poll(() => [...lab.hypervisor.machines.keys()]).toEqual([`${again.deployment}.1`]);
  expect(lab.hypervisor.leashes.size).toBe(0);
  expect(lab.hypervisor.machines.get(`${again.deployment}.1`)?.state).toBe("running");
});

test("a worker that never learns whether its outcome was written stops the machine and keeps its disk", async () => {
  await using lab = await openLab();
  let [isCut, lose] = [false, true];
  const settle: Store["settle"] = async (...given) => {
    if (isCut) throw new FormationError("unavailable", "Cut off.");
    const settled = await lab.store.settle(...given);
    if (!lose) return settled;
    isCut = true;
    lose = false;
    throw new FormationError("unavailable", "The answer was lost.");
  };
  const cutOff = cut(lab.store, () => isCut);
  const instance: Store["instance"] = (owner, id) =>
    isCut ? Promise.reject(new FormationError("unavailable", "Cut off.")) : lab.store.instance(owner, id);
  await lab.worker({
    store: { ...cutOff, settle, instance },
    settings: { ...LEASE, reconcileEveryMs: 200 },
  });
  const { deployment, instance: vm, operation } = await lab.ask.create();
  const machine = () => lab.hypervisor.machines.get(`${deployment}.1`)?.state;
  await expect.poll(machine, { timeout: 10_000 }).toBe("running");
  await expect.poll(machine, { timeout: 10_000 }).toBe("stopped");
  isCut = false;
  expect(await lab.until(vm, ({ state }) => state === "failed")).toMatchObject({
    machine_id: `${deployment}.1`,
  });
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 1 });
  expect(await lab.ended(await lab.ask.control(vm, "start"))).toMatchObject({ state: "completed" });
  expect(lab.hypervisor.leashes.size).toBe(0);
});

test("when a worker dies between the outcome and the release of the leash, the next one releases it", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { deployment, operation } = await lab.ask.create();
  await lab.ended(operation);
  await first.stop();
  const machine = `${deployment}.1`;
  await lab.hypervisor.stop(machine, { timeoutMs: 0 });
  await lab.hypervisor.start(machine, { signal: new AbortController().signal, leashMs: 60_000 });
  expect(lab.hypervisor.leashes.size).toBe(1);
  await lab.worker();
  await expect.poll(() => lab.hypervisor.leashes.size).toBe(0);
});

test("while a machine that can't be removed still runs, its operation is not given back: the next attempt waits for the lease", async () => {
  await using lab = await openLab();
  await lab.worker({ settings: { ...LEASE, sweepEveryMs: 100 } });
  lab.hypervisor.on.waitLive = (id) => {
    if (id.endsWith(".1")) throw new FormationError("unavailable", "Not now.");
  };
  let stuck = 1;
  lab.hypervisor.on.remove = () => {
    if (stuck-- > 0) throw new FormationError("unavailable", "It hangs in the kernel.");
  };
  const begun = performance.now();
  const { deployment, operation } = await lab.ask.create();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect(performance.now() - begun).toBeGreaterThan(LEASE.leaseMs / 2);
  expect([...lab.hypervisor.machines.keys()]).toEqual([`${deployment}.2`]);
  expect(lab.hypervisor.mostRunning).toBe(1);
});

/** Gives a running operation back, as a sweep at a later time does. */
async function takeAway(lab: Lab, operation: Operation): Promise<void> {
  const later = await openSqliteStore({
    path: `${lab.directory}/store.db`,
    clock: { now: () => Date.now() + 120_000 },
  });
  await later.sweep({ operationKeptMs: 1e9, strandedMs: 1e9, unusedBuildKeptMs: 1e12 });
  await later.close();
  expect((await lab.store.operation(null, operation.id)).state).toBe("queued");
}

test("an attempt whose operation was given to another is refused, removes what it made and writes nothing", async () => {
  await using lab = await openLab();
  const worker = await lab.worker();
  let go = () => {};
  const held = new Promise<void>((resolve) => {
    go = resolve;
  });
  lab.hypervisor.on.waitLive = async (id) => {
    // This guest ignores the abort: it becomes live after the operation was given to another attempt.
    if (id.endsWith(".1")) await held;
  };
  const { deployment, instance, operation } = await lab.ask.create();
  await expect.poll(() => lab.hypervisor.calls).toContain(`waitLive ${deployment}.1`);
  await takeAway(lab, operation);
  go();
  await expect.poll(() => lab.hypervisor.calls).toContain(`remove ${deployment}.1`);
  // The later sweep gave it back with a wait of two minutes.
  expect((await lab.store.operation(null, operation.id)).state).toBe("queued");
  expect((await lab.instance(instance)).machine_id).toBeNull();
  expect(lab.hypervisor.machines.size).toBe(0);
  await worker.stop();
});
