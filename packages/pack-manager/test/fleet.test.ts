import { controlSubject, FormationError, type Id, newId, SUBJECTS } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { expect, test } from "vitest";
import { openFleet, QUICK } from "./support/fleet.ts";
import { formfile } from "./support/requests.ts";
import { aborted } from "./support/scripted-drivers.ts";

const SMALL = { vcpus: 1, memory_mb: 100, disk_gb: 1 };

test("a build goes to a node that has its labels, whichever node its wake-up reached", async () => {
  await using fleet = await openFleet();
  const plain = [await fleet.join(), await fleet.join(), await fleet.join({ labels: { gpu: "no" } })];
  const gpu = await fleet.join({ labels: { gpu: "yes", zone: "a" } });
  for (let n = 0; n < 6; n++) {
    const { operation } = await fleet.ask.build({}, undefined, undefined, { gpu: "yes" });
    expect(await fleet.ended(operation)).toMatchObject({ state: "completed", attempt: 1 });
  }
  expect(gpu.builder.requests).toHaveLength(6);
  for (const { builder } of plain) expect(builder.requests).toHaveLength(0);
  expect(await fleet.queue.deadLetters(10)).toEqual([]);
});

test("a node that an offer does not suit never asks for it, and of those that it suits few ask", async () => {
  await using fleet = await openFleet();
  const small = await Promise.all(Array.from({ length: 4 }, () => fleet.join({ capacity: SMALL })));
  const large = await Promise.all(Array.from({ length: 3 }, () => fleet.join()));
  const asked = () => [small, large].map((some) => some.reduce((sum, { claims }) => sum + claims, 0));
  const [idle = 0] = asked();
  const rounds = 10;
  for (let n = 0; n < rounds; n++) {
    const { operation } = await fleet.ask.create({}, `vm-${n}`);
    expect(await fleet.ended(operation)).toMatchObject({ state: "completed" });
  }
  const [bySmall = 0, byLarge = 0] = asked();
  // A small node asks when the wake-up reaches it, and then offers the operation; the other small ones do not
  // ask.
  expect(bySmall - idle).toBeLessThanOrEqual(2 * rounds);
  expect(byLarge).toBeGreaterThanOrEqual(rounds);
  expect(await fleet.queue.deadLetters(10)).toEqual([]);
});

test("a node that starts with more builds than slots takes wake-ups for builds once they are done", async () => {
  await using fleet = await openFleet();
  const before = [await fleet.ask.build(), await fleet.ask.build(), await fleet.ask.build()];
  await fleet.join({}, { buildSlots: 1 });
  for (const { operation } of before) await fleet.ended(operation);
  const { operation } = await fleet.ask.build();
  expect(await fleet.ended(operation)).toMatchObject({ state: "completed" });
});

test("a node without a free build slot takes no wake-up for a build", async () => {
  await using fleet = await openFleet();
  const busy = await fleet.join({}, { buildSlots: 1 });
  // It was woken for work before, and is idle again.
  for (let n = 0; n < 3; n++) await fleet.ended((await fleet.ask.build()).operation);
  const building = Promise.withResolvers<void>();
  const built = Promise.withResolvers<void>();
  busy.builder.script.push(async () => {
    building.resolve();
    await built.promise;
  });
  const long = await fleet.ask.build();
  await building.promise;
  await fleet.join();
  const { claims } = busy;
  for (let n = 0; n < 10; n++) {
    expect(await fleet.ended((await fleet.ask.build()).operation)).toMatchObject({ state: "completed" });
  }
  expect(busy.claims - claims).toBeLessThanOrEqual(1);
  built.resolve();
  expect(await fleet.ended(long.operation)).toMatchObject({ state: "completed" });
});

test("a full node takes no wake-up, and takes work again when something ends", async () => {
  await using fleet = await openFleet();
  const only = await fleet.join({ capacity: { vcpus: 1, memory_mb: 4096, disk_gb: 100 } });
  const first = await fleet.live(only, "first");
  const { operation } = await fleet.ask.create({}, "second");
  const other = await fleet.join();
  expect(await fleet.ended(operation)).toMatchObject({ state: "completed" });
  expect(other.hypervisor.machines.size).toBe(1);
  const third = await fleet.ask.create({ resources: { vcpus: 1, memory_mb: 4000, disk_gb: 1 } }, "third");
  await fleet.ended(await fleet.ask.remove(first));
  expect(await fleet.ended(third.operation)).toMatchObject({ state: "completed" });
  expect(only.hypervisor.machines.size).toBe(1);
});

test("a replaced machine counts its disk until it is removed", async () => {
  await using fleet = await openFleet();
  const capacity = { vcpus: 16, memory_mb: 65_536, disk_gb: 3 };
  const { hypervisor } = await fleet.join({ capacity }, { pollEveryMs: 50 });
  const first = await fleet.ask.create({ resources: { ...SMALL, disk_gb: 2 } }, "first");
  await fleet.ended(first.operation);
  const removal = Promise.withResolvers<void>();
  hypervisor.on.remove = () => removal.promise;
  const smaller = { replace: first.instance, config: { resources: SMALL } };
  await fleet.ended((await fleet.ask.ship(first.build, smaller)).operation);
  const second = await fleet.ask.create({ resources: SMALL }, "second");
  // A node that claims this would have claimed the older operation first.
  await fleet.ended((await fleet.ask.build()).operation);
  expect(await fleet.store.operation(null, second.operation.id)).toMatchObject({ state: "queued" });
  expect(hypervisor.machines.size).toBe(2);
  removal.resolve();
  expect(await fleet.ended(second.operation)).toMatchObject({ state: "completed" });
});

test("the machine of an instance that moved to another node counts its disk until it is removed", async () => {
  await using fleet = await openFleet();
  const capacity = { vcpus: 16, memory_mb: 65_536, disk_gb: 3 };
  const one = await fleet.join({ capacity }, { reconcileEveryMs: 100, pollEveryMs: 50 });
  const two = await fleet.join();
  await fleet.store.setNodeScheduling(two.id, { cordoned: true, drain: null });
  const first = await fleet.ask.create({ resources: { ...SMALL, disk_gb: 2 } }, "first");
  await fleet.ended(first.operation);
  await fleet.ended(await fleet.ask.control(first.instance, "stop"));
  const removal = Promise.withResolvers<void>();
  one.hypervisor.on.remove = () => removal.promise;
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: null });
  await fleet.store.setNodeScheduling(two.id, { cordoned: false, drain: null });
  const moved = await fleet.ask.ship(first.build, { replace: first.instance, anywhere: true });
  expect(await fleet.ended(moved.operation)).toMatchObject({ state: "completed" });
  expect(await fleet.store.instance(null, first.instance)).toMatchObject({ node_id: two.id });
  await fleet.store.setNodeScheduling(two.id, { cordoned: true, drain: null });
  await fleet.store.setNodeScheduling(one.id, { cordoned: false, drain: null });
  const second = await fleet.ask.create({ resources: { ...SMALL, disk_gb: 2 } }, "second");
  await fleet.queue.emit({ v: 1, id: one.id, owner: "nodes", for: one.id });
  // A node that claims this would have claimed the older operation first.
  await fleet.ended((await fleet.ask.build()).operation);
  expect(await fleet.store.operation(null, second.operation.id)).toMatchObject({ state: "queued" });
  removal.resolve();
  expect(await fleet.ended(second.operation)).toMatchObject({ state: "completed" });
});

test("a running machine counts its CPUs even while its record says that it failed", async () => {
  await using fleet = await openFleet();
  const capacity = { vcpus: 1, memory_mb: 65_536, disk_gb: 100 };
  const only = await fleet.join({ capacity }, { pollEveryMs: 50 });
  const vm = await fleet.live(only, "first");
  const { version } = await fleet.store.instance(null, vm);
  await fleet.store.observe(vm, version, { state: "failed" });
  const { operation } = await fleet.ask.create({}, "second");
  const { claims } = only;
  await expect.poll(() => only.claims - claims).toBeGreaterThan(2);
  await fleet.ended(await fleet.ask.remove(vm));
  expect(await fleet.ended(operation)).toMatchObject({ state: "completed" });
  expect(only.hypervisor.mostRunning).toBe(1);
});

test("an instance that is about to start counts its CPUs, even if it ran when the start was submitted and has ended since", async () => {
  await using fleet = await openFleet();
  const capacity = { vcpus: 1, memory_mb: 65_536, disk_gb: 100 };
  const only = await fleet.join({ capacity }, { pollEveryMs: 50 });
  const vm = await fleet.live(only, "first");
  const { inspect } = only.hypervisor;
  const [asked, held] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  only.hypervisor.inspect = async (id) => {
    asked.resolve();
    await held.promise;
    return inspect(id);
  };
  const start = await fleet.ask.control(vm, "start");
  await asked.promise;
  const { version, machine_id } = await fleet.store.instance(null, vm);
  only.hypervisor.die(machine_id ?? "", {});
  await fleet.store.observe(vm, version, { state: "failed" });
  const { operation } = await fleet.ask.create({}, "second");
  const { claims } = only;
  await expect.poll(() => only.claims - claims).toBeGreaterThan(2);
  held.resolve();
  expect(await fleet.ended(start)).toMatchObject({ state: "completed" });
  await fleet.ended(await fleet.ask.remove(vm));
  expect(await fleet.ended(operation)).toMatchObject({ state: "completed" });
  expect(only.hypervisor.mostRunning).toBe(1);
});

test("a silent node ends its build after half the lease, and another node builds it after the whole lease", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join({}, QUICK), await fleet.join({}, { ...QUICK, pollEveryMs: 100 })];
  await fleet.store.setNodeScheduling(two.id, { cordoned: true, drain: null });
  let [began, killed, again] = [0, 0, 0];
  one.builder.script = [
    async (_, { signal }) => {
      began = performance.now();
      one.cut(true);
      await fleet.store.setNodeScheduling(two.id, { cordoned: false, drain: null });
      await fleet.queue.emit({ v: 1, id: two.id, owner: "nodes", for: two.id });
      await aborted(signal).finally(() => {
        killed = performance.now();
      });
    },
  ];
  two.builder.script = [
    () => {
      again = performance.now();
    },
  ];
  const { operation } = await fleet.ask.build();
  expect(await fleet.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect(killed).toBeGreaterThan(began);
  expect(again).toBeGreaterThan(killed);
});

test("the instances of a silent node are lost, and running again when the node returns and reports them", async () => {
  await using fleet = await openFleet();
  const [one] = [await fleet.join({}, QUICK), await fleet.join({}, QUICK)];
  const vm = await fleet.live(one);
  const before = await fleet.store.instance(null, vm);
  one.cut(true);
  const lost = await fleet.until(vm, ({ state }) => state === "lost");
  expect(lost).toMatchObject({ desired: "running", node_id: one.id, machine_id: before.machine_id });
  expect(lost.error).toMatchObject({ code: "unavailable", message: expect.stringMatching(/since \d{4}-/) });
  one.cut(false);
  const back = await fleet.until(vm, ({ state }) => state === "running");
  expect(back).toMatchObject({ machine_id: before.machine_id, error: null });
  expect(one.hypervisor.calls.filter((call) => call.startsWith("start "))).toHaveLength(1);
});

test("a lost instance is not started elsewhere: the shipment is refused, and its machine runs on", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join({}, QUICK), await fleet.join({}, QUICK)];
  const vm = await fleet.live(one);
  one.cut(true);
  const { build_id, machine_id } = await fleet.until(vm, ({ state }) => state === "lost");
  const again = await fleet.ask.ship(build_id, { replace: vm, anywhere: true });
  const { state, error } = await fleet.ended(again.operation);
  expect(state).toBe("failed");
  expect(error).toMatchObject({
    code: "conflict",
    remedy: expect.stringMatching(/removes the node with force/),
  });
  expect(two.hypervisor.machines.size).toBe(0);
  one.cut(false);
  expect(await fleet.until(vm, (now) => now.state === "running")).toMatchObject({ machine_id });
  expect(one.hypervisor.calls.filter((call) => /^(start|stop) /.test(call))).toHaveLength(1);
});

test("an instance whose node fell silent during its replacement is started nowhere, and says so when the node is back", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join({}, QUICK), await fleet.join({}, { ...QUICK, sweepEveryMs: 100 })];
  const vm = await fleet.live(one);
  await fleet.store.setNodeScheduling(two.id, { cordoned: true, drain: null });
  const { build_id, machine_id } = await fleet.store.instance(null, vm);
  one.hypervisor.on.waitLive = async (id, signal) => {
    if (id === machine_id) return;
    one.cut(true);
    await fleet.store.setNodeScheduling(two.id, { cordoned: false, drain: null });
    await aborted(signal);
  };
  const again = await fleet.ask.ship(build_id, { replace: vm, anywhere: true });
  expect(await fleet.ended(again.operation)).toMatchObject({ state: "failed", error: { code: "conflict" } });
  expect(two.hypervisor.machines.size).toBe(0);
  expect(["starting", "lost"]).toContain((await fleet.store.instance(null, vm)).state);
  one.cut(false);
  const back = await fleet.until(vm, ({ state }) => state === "failed");
  expect(back).toMatchObject({ node_id: one.id, machine_id, error: { remedy: expect.any(String) } });
  one.hypervisor.on = {};
  const third = await fleet.ask.ship(build_id, { replace: vm, anywhere: true });
  expect(await fleet.ended(third.operation)).toMatchObject({ state: "completed" });
  const { machine_id: now } = await fleet.store.instance(null, vm);
  const machines = () => [one, two].flatMap(({ hypervisor }) => [...hypervisor.machines.keys()]);
  await expect.poll(machines, { timeout: 10_000 }).toEqual([now]);
});

test("a lost instance that was to be deleted is deleted when its node returns, even after the operation's deadline", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join({}, QUICK), await fleet.join({}, QUICK)];
  const [vm, other] = [await fleet.live(one, "a"), await fleet.live(one, "b")];
  one.cut(true);
  for (const id of [vm, other]) await fleet.until(id, ({ state }) => state === "lost");
  const waits = await fleet.ask.remove(vm);
  const { version } = await fleet.store.instance(null, other);
  await fleet.store.observe(other, version, { desired: "deleted" });
  expect(await fleet.store.instance(null, vm)).toMatchObject({ state: "lost", desired: "deleted" });
  one.cut(false);
  for (const id of [vm, other]) await fleet.until(id, ({ state }) => state === "deleted");
  expect(await fleet.ended(waits)).toMatchObject({ state: "completed" });
  expect(one.hypervisor.machines.size + two.hypervisor.machines.size).toBe(0);
});

test("a removed node that returns has no instances, and removes its machines", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join({}, QUICK), await fleet.join({}, QUICK)];
  const vm = await fleet.live(one);
  one.cut(true);
  await fleet.until(vm, ({ state }) => state === "lost");
  await fleet.store.removeNode(one.id, { force: true });
  const { build_id } = await fleet.until(vm, ({ state }) => state === "failed");
  const again = await fleet.ask.ship(build_id, { replace: vm });
  expect(await fleet.ended(again.operation)).toMatchObject({ state: "completed" });
  one.cut(false);
  await expect.poll(() => one.hypervisor.machines.size, { timeout: 10_000 }).toBe(0);
  expect(await fleet.store.instance(null, vm)).toMatchObject({ state: "running", node_id: two.id });
});

test("a cordoned node takes no new work, but controls its instances", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join(), await fleet.join()];
  const vm = await fleet.live(one);
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: null });
  await fleet.queue.emit({ v: 1, id: one.id, owner: "nodes", for: one.id });
  for (let n = 0; n < 4; n++)
    expect(await fleet.ended((await fleet.ask.build()).operation)).toMatchObject({ state: "completed" });
  expect(two.builder.requests).toHaveLength(4);
  expect(await fleet.ended(await fleet.ask.control(vm, "restart"))).toMatchObject({ state: "completed" });
});

test("a drain stops the instances of a node, if asked to", async () => {
  await using fleet = await openFleet();
  const one = await fleet.join({}, QUICK);
  const [a, b] = [await fleet.live(one, "a"), await fleet.live(one, "b")];
  await fleet.ended(await fleet.ask.control(b, "stop"));
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: "keep" });
  await fleet.queue.emit({ v: 1, id: one.id, owner: "nodes", for: one.id });
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: "stop" });
  expect(await fleet.until(a, ({ state }) => state === "stopped")).toMatchObject({
    desired: "stopped",
    node_id: one.id,
  });
  expect((await fleet.store.instance(null, b)).state).toBe("stopped");
});

test("a drain moves running instances to nodes with capacity, from their images; one that fits no node runs on", async () => {
  await using fleet = await openFleet();
  const [one, two] = [
    await fleet.join({}, QUICK),
    await fleet.join({ capacity: { vcpus: 1, memory_mb: 4096, disk_gb: 100 } }, QUICK),
  ];
  const vm = await fleet.live(one, "a");
  const large = await fleet.ask.create({ resources: { vcpus: 3, memory_mb: 128, disk_gb: 1 } }, "large");
  await fleet.ended(large.operation);
  const before = await fleet.store.instance(null, vm);
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: "move" });
  await fleet.queue.emit({ v: 1, id: one.id, owner: "nodes", for: one.id });
  const moved = await fleet.until(vm, ({ node_id, state }) => node_id === two.id && state === "running");
  expect(moved).toMatchObject({
    desired: "running",
    name: "a",
    config: before.config,
    build_id: before.build_id,
  });
  expect(moved.machine_id).not.toBe(before.machine_id);
  await expect
    .poll(() => [...one.hypervisor.machines.keys()], { timeout: 10_000 })
    .not.toContain(before.machine_id);
  expect(await fleet.store.instance(null, large.instance)).toMatchObject({
    state: "running",
    node_id: one.id,
  });
});

test("a failed shipment that takes an instance over from another node leaves it unchanged there", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join(), await fleet.join()];
  const vm = await fleet.live(one);
  const { build_id, machine_id } = await fleet.store.instance(null, vm);
  const elsewhere = { replace: vm, anywhere: true, node: two.id };
  const refused = await fleet.ask.ship(build_id, elsewhere);
  expect(await fleet.ended(refused.operation)).toMatchObject({
    state: "failed",
    error: { code: "conflict" },
  });
  expect(await fleet.store.instance(null, vm)).toMatchObject({ state: "running", node_id: one.id });
  await fleet.ended(await fleet.ask.control(vm, "stop"));
  two.hypervisor.on.start = () => {
    throw new Error("No.");
  };
  const failed = await fleet.ask.ship(build_id, elsewhere);
  expect(await fleet.ended(failed.operation)).toMatchObject({ state: "failed" });
  expect(await fleet.store.instance(null, vm)).toMatchObject({
    state: "stopped",
    desired: "stopped",
    node_id: one.id,
    machine_id,
  });
  expect(two.hypervisor.machines.size).toBe(0);
  expect(await fleet.ended(await fleet.ask.control(vm, "start"))).toMatchObject({ state: "completed" });
});

test("an operation on an instance that has moved to another node is refused and changes nothing", async () => {
  await using fleet = await openFleet();
  const [one, two] = [await fleet.join(), await fleet.join()];
  const vm = await fleet.live(one);
  const record = await fleet.store.instance(null, vm);
  await fleet.store.observe(vm, record.version, { node_id: two.id });
  const late = {
    operation: {
      id: newId("op"),
      owner: record.owner,
      tool: "vm_control",
      subject: controlSubject(one.id),
      input: { kind: "control" as const, instance_id: vm, action: "stop" as const },
      target_id: vm,
      node_id: one.id,
      deadline_at: Date.now() + 60_000,
    },
  };
  const { operation } = await fleet.store.submit(late);
  await fleet.queue.publish(operation.subject, `${operation.id}.1`, { v: 1, operation_id: operation.id });
  expect(await fleet.ended(operation)).toMatchObject({ state: "failed", error: { code: "conflict" } });
  expect([...one.hypervisor.machines.values()]).toMatchObject([{ state: "running" }]);
});

test("where the sweep can send no wake-up, it offers the operation to the nodes by an event", async () => {
  await using fleet = await openFleet();
  fleet.queue.publish = () => Promise.reject(new Error("Not allowed."));
  const { operation } = await fleet.store.submit({
    ...(await unsent(fleet.store)),
  });
  expect(operation.subject).toBe(SUBJECTS.build);
  await fleet.join({ capacity: SMALL }, { sweepEveryMs: 50, strandedMs: 20 });
  const other = await fleet.join();
  expect(await fleet.ended(operation)).toMatchObject({ state: "completed" });
  expect(other.builder.requests).toHaveLength(1);
});

/** A build without a wake-up, for which only the second node has capacity. */
async function unsent(_: unknown) {
  const [build_id, id] = [newId("bld"), newId("op")];
  const file = formfile();
  const now = Date.now();
  return {
    operation: {
      id,
      owner: "local:1000",
      tool: "pack_build",
      subject: SUBJECTS.build,
      input: { kind: "build" as const, build_id, no_cache: false },
      target_id: build_id,
      node_id: null,
      needs: { vcpus: 2, memory_mb: 256, disk_gb: 0 },
      deadline_at: now + 60_000,
    },
    build: {
      id: build_id,
      owner: "local:1000",
      name: file.name,
      state: "queued" as const,
      formfile: file,
      context_digest: null,
      image: null,
      warnings: [],
      metadata: {},
      error: null,
      node_id: null,
      used_at: now,
      operation_id: id,
      started_at: null,
      ended_at: null,
    },
  };
}

test("a drain moves only as many instances as other nodes have capacity for: the rest run on", async () => {
  await using fleet = await openFleet();
  const one = await fleet.join({}, QUICK);
  const vms = [await fleet.live(one, "a"), await fleet.live(one, "b")];
  const { vcpus } = (await fleet.store.instance(null, vms[0] as Id<"vm">)).config.resources;
  const two = await fleet.join({ capacity: { vcpus, memory_mb: 65_536, disk_gb: 100 } }, QUICK);
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: "move" });
  const where = async () =>
    (await Promise.all(vms.map((vm) => fleet.store.instance(null, vm)))).map(
      ({ node_id, state, desired }) => `${node_id === two.id ? "moved" : "here"} ${state} ${desired}`,
    );
  const done = ["here running running", "moved running running"];
  await expect.poll(async () => (await where()).sort(), { timeout: 15_000 }).toEqual(done);
  // It still is after more heartbeats.
  const beats = (await fleet.store.node(one.id))?.version ?? 0;
  await expect.poll(async () => ((await fleet.store.node(one.id))?.version ?? 0) - beats).toBeGreaterThan(3);
  expect((await where()).sort()).toEqual(done);
});

/** A move whose shipments are preceded by a change, each time they are submitted. */
async function movedDespite(meets: (vm: Id<"vm">, times: number, store: Store) => Promise<void>) {
  const fleet = await openFleet();
  const [one, two] = [await fleet.join({}, QUICK), await fleet.join({}, QUICK)];
  const vm = await fleet.live(one, "a");
  const { submit } = fleet.store;
  let times = 0;
  fleet.store.submit = async (submission) => {
    if (submission.operation.input.kind === "ship") await meets(vm, ++times, fleet.store);
    return submit(submission);
  };
  await fleet.store.setNodeScheduling(one.id, { cordoned: true, drain: "move" });
  return { fleet, vm, one, two, times: () => times };
}

test("a drain moves an instance even if its stop still runs while its shipment is submitted", async () => {
  const { fleet, vm, two } = await movedDespite(async (vm, times, store) => {
    if (times > 2) return;
    const { version } = await store.instance(null, vm);
    await store.observe(vm, version, { warnings: [String(times)] });
  });
  await using _ = fleet;
  await fleet.until(vm, ({ node_id, state }) => node_id === two.id && state === "running");
});

test("an instance that a drain has stopped but could not ship yet is shipped by a later check", async () => {
  const { fleet, vm, two } = await movedDespite(async (id, _, store) => {
    if ((await store.instance(null, id)).state === "stopped") return;
    throw new FormationError("unavailable", "The store is away.");
  });
  await using _ = fleet;
  await fleet.until(vm, ({ node_id, state }) => node_id === two.id && state === "running");
});

test("an instance that a drain has stopped stays on its node if its owner stops it before it is shipped", async () => {
  let away = true;
  const { fleet, vm, one, times } = await movedDespite(async () => {
    if (away) throw new FormationError("unavailable", "The store is away.");
  });
  await using _ = fleet;
  const halfWay = await fleet.until(vm, ({ state }) => state === "stopped");
  expect(halfWay).toMatchObject({ desired: "running", node_id: one.id });
  await fleet.ended(await fleet.ask.control(vm, "stop"));
  away = false;
  const asked = times();
  const beats = (await fleet.store.node(one.id))?.version ?? 0;
  await expect.poll(async () => ((await fleet.store.node(one.id))?.version ?? 0) - beats).toBeGreaterThan(3);
  expect(times()).toBe(asked);
  expect(await fleet.store.instance(null, vm)).toMatchObject({
    state: "stopped",
    desired: "stopped",
    node_id: one.id,
  });
});
