import type { Id } from "@formation-mcp/contract";
import type { InstancePatch } from "@formation-mcp/operations";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";

async function live(lab: Lab) {
  const shipped = await lab.ask.create();
  expect((await lab.ended(shipped.operation)).state).toBe("completed");
  return { ...shipped, machine: `${shipped.deployment}.1` };
}

async function write(lab: Lab, id: Id<"vm">, ...patches: InstancePatch[]): Promise<void> {
  for (const patch of patches) await lab.store.observe(id, (await lab.instance(id)).version, patch);
}

const guest = (exit_code: number | null) => ({ started_at: 1, listening: [], exit_code, problem: null });
const DEATHS = [
  ["its entrypoint ended", { guest: guest(7) }, /exited with code 7/],
  ["its guest shut down", { exit: { reason: "guest-shutdown", code: 0 } }, /shut itself down/],
  ["its guest panicked", { exit: { reason: "guest-panic", code: null } }, /kernel panicked/],
  ["its process was killed", { exit: { reason: "killed", code: 137 } }, /was killed.*137/],
  ["its files contradict themselves", { state: "broken", problem: "no disk" }, /contradicts.*no disk/],
  ["nothing is left of it", { state: "absent" }, /gone from its node/],
] as const;

for (const [what, status, message] of DEATHS) {
  test(`an instance whose machine died because ${what} has failed, and says so with a remedy`, async () => {
    await using lab = await openLab();
    await lab.worker();
    const { instance, machine } = await live(lab);
    lab.hypervisor.say(machine, "last words");
    await expect.poll(() => lab.log(instance)).toContain("last words");
    lab.hypervisor.die(machine, status);
    const failed = await lab.until(instance, (read) => read.state === "failed");
    expect(failed.desired).toBe("running");
    expect(failed.error?.message).toMatch(message);
    expect(failed.error?.remedy).toBeTruthy();
    expect(failed.observed?.endpoints.every((endpoint) => !endpoint.listening)).toBe(true);
  });
}

test("a machine that was running when its host was rebooted is said to have failed for that reason", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { instance, machine } = await live(lab);
  await first.stop();
  lab.hypervisor.die(machine, { exit: { reason: "killed", code: null } });
  await lab.worker({ hostBootedAt: () => Date.now() + 1000 });
  expect(await lab.instance(instance)).toMatchObject({
    state: "failed",
    error: { message: expect.stringContaining("rebooted") },
  });
  expect((await lab.ended(await lab.ask.control(instance, "start"))).state).toBe("completed");
  expect(await lab.instance(instance)).toMatchObject({ state: "running", error: null });
});

test("a machine that no record names is removed, and those that records name are left alone", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { machine, deployment } = await live(lab);
  await first.stop();
  const known = lab.hypervisor.machines.get(machine);
  if (!known) throw new Error("no machine");
  for (const id of [`${deployment}.9`, "dep_00000000000000000000000000000000000000.1", "stray"]) {
    lab.hypervisor.machines.set(id, { ...known, id });
  }
  await lab.worker();
  expect([...lab.hypervisor.machines.keys()]).toEqual([machine]);
});

test("instances without an unfinished operation get their real state", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const [starting, dead, stopping, deleting, wanted] = [
    await live(lab),
    await live(lab),
    await live(lab),
    await live(lab),
    await live(lab),
  ];
  await first.stop();
  await write(lab, starting.instance, { state: "starting" });
  await write(lab, dead.instance, { state: "starting" });
  lab.hypervisor.die(dead.machine, {});
  await write(lab, stopping.instance, { state: "stopping", desired: "stopped" });
  await write(lab, deleting.instance, { state: "deleting", desired: "deleted" });
  await write(lab, wanted.instance, { desired: "stopped" });
  await lab.worker();
  expect((await lab.instance(starting.instance)).state).toBe("running");
  expect((await lab.instance(dead.instance)).state).toBe("failed");
  expect((await lab.instance(stopping.instance)).state).toBe("stopped");
  expect(lab.hypervisor.machines.get(stopping.machine)?.state).toBe("stopped");
  expect((await lab.instance(deleting.instance)).state).toBe("deleted");
  expect(lab.hypervisor.machines.has(deleting.machine)).toBe(false);
  expect((await lab.instance(wanted.instance)).state).toBe("stopped");
  expect(lab.hypervisor.machines.get(wanted.machine)?.state).toBe("stopped");
});

test("an observation is written when it changes, and from time to time", async () => {
  await using lab = await openLab();
  let offset = 0;
  await lab.worker({ clock: { now: () => Date.now() + offset }, settings: { reconcileEveryMs: 50 } });
  const { instance, machine } = await live(lab);
  const before = await lab.instance(instance);
  const status = lab.hypervisor.machines.get(machine);
  if (!status) throw new Error("no machine");
  lab.hypervisor.machines.set(machine, { ...status, guest: { ...status.guest, listening: [] } });
  const after = await lab.until(instance, (read) => read.observed?.endpoints[0]?.listening === false);
  expect(after.state).toBe("running");
  expect(before.observed?.endpoints[0]?.listening).toBe(true);
  offset = 70_000;
  const seen = after.observed?.seen_at ?? 0;
  await lab.until(instance, (read) => (read.observed?.seen_at ?? 0) >= seen + 60_000);
});

test("the log of an instance has what its machine printed, even while no worker ran", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { instance, machine } = await live(lab);
  lab.hypervisor.say(machine, "one");
  await expect.poll(() => lab.log(instance)).toEqual(["one"]);
  await first.stop();
  lab.hypervisor.say(machine, "two");
  await lab.worker();
  lab.hypervisor.say(machine, "three");
  await expect.poll(() => lab.log(instance)).toEqual(["one", "two", "three"]);
});

test("images and logs that no record names are swept, others are not", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { build, instance, machine } = await live(lab);
  lab.hypervisor.say(machine, "kept");
  await expect.poll(() => lab.log(instance)).toEqual(["kept"]);
  await first.stop();
  lab.builder.kept.set("sha256:stray", 1);
  const gone = "bld_000000000000000000000000000000000000";
  await lab.artifacts.appendLog(gone, [{ at: 1, stream: "build", text: "x" }]);
  await lab.worker();
  const { image } = await lab.store.build(null, build);
  expect([...lab.builder.kept.keys()]).toEqual([image?.digest]);
  expect(await lab.artifacts.logNames()).not.toContain(gone);
  expect(await lab.log(instance)).toEqual(["kept"]);
});

test("an operation that does not fit waits, and is claimed when capacity is free again", async () => {
  await using lab = await openLab();
  const small = { vcpus: 16, memory_mb: 300, disk_gb: 100 };
  await lab.worker({
    node: {
      id: lab.node,
      name: "small",
      labels: {},
      capacity: small,
      engine: { builder: "x", hypervisor: "x", accelerator: "tcg", profile: "user" },
      pid: 1,
      program: "1",
    },
  });
  const [one, two] = [await live(lab), await live(lab)];
  const three = await lab.ask.create();
  // This build was submitted last and is done, so the worker has considered everything that was queued.
  await lab.ended(await lab.ask.control(two.instance, "pause"));
  await lab.ended(await lab.ask.control(two.instance, "resume"));
  expect(await lab.store.operation(null, three.operation.id)).toMatchObject({ state: "queued", attempt: 0 });
  await lab.ended(await lab.ask.control(one.instance, "stop"));
  expect((await lab.ended(three.operation)).state).toBe("completed");
  expect((await lab.instance(two.instance)).state).toBe("running");
});
