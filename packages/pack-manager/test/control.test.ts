import { FormationError } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";
import { aborted } from "./support/scripted-drivers.ts";

async function live(lab: Lab) {
  const shipped = await lab.ask.create();
  expect((await lab.ended(shipped.operation)).state).toBe("completed");
  return { ...shipped, machine: `${shipped.deployment}.1` };
}

test("an instance is paused, resumed, stopped, started and restarted, and each action is idempotent", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { instance, machine } = await live(lab);
  const story = [
    ["pause", "paused"],
    ["pause", "paused"],
    ["resume", "running"],
    ["resume", "running"],
    ["start", "running"],
    ["stop", "stopped"],
    ["stop", "stopped"],
    ["start", "running"],
    ["restart", "running"],
    ["pause", "paused"],
    ["stop", "stopped"],
    ["restart", "running"],
  ] as const;
  for (const [action, state] of story) {
    expect(await lab.ended(await lab.ask.control(instance, action)), action).toMatchObject({
      state: "completed",
    });
    expect(await lab.instance(instance), action).toMatchObject({ state, desired: state, error: null });
    expect(lab.hypervisor.machines.get(machine)?.state, action).toBe(state);
  }
});

test("a start that fails stops the machine and says why", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { instance, machine } = await live(lab);
  await lab.ended(await lab.ask.control(instance, "stop"));
  lab.hypervisor.on.waitLive = (id) => {
    lab.hypervisor.say(id, "disk is full");
    throw new FormationError("invalid", "The entrypoint exited with code 1.", {
      step: "entrypoint",
      exit_code: 1,
    });
  };
  const ended = await lab.ended(await lab.ask.control(instance, "start"));
  expect(ended).toMatchObject({ state: "failed", error: { exit_code: 1, log_tail: ["disk is full"] } });
  expect(await lab.instance(instance)).toMatchObject({ state: "failed", error: ended.error });
  expect(lab.hypervisor.machines.get(machine)?.state).toBe("stopped");
});

test("a start that is cancelled is stopped again", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { instance, machine } = await live(lab);
  await lab.ended(await lab.ask.control(instance, "stop"));
  lab.hypervisor.on.waitLive = (_id, signal) => aborted(signal);
  const operation = await lab.ask.control(instance, "start");
  await lab.until(instance, (read) => read.state === "starting");
  await lab.store.requestCancel(null, operation.id);
  expect((await lab.ended(operation)).state).toBe("cancelled");
  expect(await lab.instance(instance)).toMatchObject({ state: "stopped", desired: "stopped" });
  expect(lab.hypervisor.machines.get(machine)?.state).toBe("stopped");
});

test("an action that is not possible is a conflict that names what is possible", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { instance } = await live(lab);
  await lab.ended(await lab.ask.control(instance, "stop"));
  const ended = await lab.ended(await lab.ask.control(instance, "pause"));
  expect(ended).toMatchObject({ state: "failed", error: { code: "conflict" } });
  expect(ended.error?.remedy).toContain("vm_control");
  expect(await lab.instance(instance)).toMatchObject({ state: "stopped", desired: "stopped" });
});

test("a deleted instance leaves no machine and no log", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { instance, machine, deployment } = await live(lab);
  lab.hypervisor.say(machine, "hello");
  await expect.poll(() => lab.log(instance)).toContain("hello");
  expect((await lab.ended(await lab.ask.remove(instance))).state).toBe("completed");
  expect(await lab.instance(instance)).toMatchObject({ state: "deleted", machine_id: null });
  expect(lab.hypervisor.machines.size).toBe(0);
  expect(await lab.artifacts.logNames()).not.toContain(instance);
  expect((await lab.store.deployment(null, deployment)).state).toBe("superseded");
  expect(
    (await lab.ended(await lab.ask.control(instance, "start").catch(() => lab.ask.remove(instance)))).state,
  ).toBe("completed");
});

test("a delete cancels a shipment that runs, and then removes everything", async () => {
  await using lab = await openLab();
  await lab.worker();
  lab.hypervisor.on.waitLive = (_id, signal) => aborted(signal);
  const { instance, operation } = await lab.ask.create();
  await expect.poll(() => lab.hypervisor.calls.some((call) => call.startsWith("waitLive"))).toBe(true);
  const removal = await lab.ask.remove(instance);
  expect((await lab.ended(operation)).state).toBe("cancelled");
  expect((await lab.ended(removal)).state).toBe("completed");
  expect((await lab.instance(instance)).state).toBe("deleted");
  expect(lab.hypervisor.machines.size).toBe(0);
});

test("a delete that can't remove the machine is tried again and never says deleted before nothing is left", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { instance } = await live(lab);
  let failures = 2;
  lab.hypervisor.on.remove = () => {
    if (failures-- > 0) throw new FormationError("unavailable", "The disk is busy.");
  };
  const removal = await lab.ask.remove(instance);
  expect(await lab.ended(removal)).toMatchObject({ state: "completed", attempt: 3 });
  expect((await lab.instance(instance)).state).toBe("deleted");
  expect(lab.hypervisor.machines.size).toBe(0);
});

test("an instance that failed can be deleted", async () => {
  await using lab = await openLab();
  await lab.worker();
  lab.hypervisor.on.start = () => {
    throw new FormationError("conflict", "The port is taken.", { step: "boot" });
  };
  const { instance, operation } = await lab.ask.create();
  expect((await lab.ended(operation)).state).toBe("failed");
  expect((await lab.ended(await lab.ask.remove(instance))).state).toBe("completed");
  expect((await lab.instance(instance)).state).toBe("deleted");
});

test("a node with a wrong clock tells a refused change from a void lease", async () => {
  await using lab = await openLab();
  await lab.worker({ clock: { now: () => Date.now() + 60_000 } });
  const { instance } = await live(lab);
  await lab.ended(await lab.ask.control(instance, "stop"));
  const ended = await lab.ended(await lab.ask.control(instance, "pause"));
  expect(ended).toMatchObject({ state: "failed", attempt: 1, error: { code: "conflict" } });
});
