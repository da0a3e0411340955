import { FormationError } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";
import { aborted } from "./support/scripted-drivers.ts";

async function built(lab: Lab) {
  const { build, operation } = await lab.ask.build();
  expect((await lab.ended(operation)).state).toBe("completed");
  return build;
}

async function live(lab: Lab, name?: string) {
  const build = await built(lab);
  const shipped = await lab.ask.ship(build, name ? { name } : {});
  expect(await lab.ended(shipped.operation)).toMatchObject({ state: "completed" });
  return { build, ...shipped };
}

test("a shipped build is live: deployment, instance and operation say so together", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { build, deployment, instance } = await live(lab, "web");
  const record = await lab.instance(instance);
  expect(record).toMatchObject({
    state: "running",
    desired: "running",
    node_id: lab.node,
    deployment_id: deployment,
    machine_id: `${deployment}.1`,
    build_id: build,
    error: null,
  });
  expect(record.observed?.endpoints).toEqual([
    { guest_port: 8080, address: "127.0.0.1", port: 28080, listening: true },
  ]);
  expect(await lab.store.deployment(null, deployment)).toMatchObject({
    state: "live",
    machine_id: `${deployment}.1`,
  });
  expect(lab.hypervisor.specs.get(`${deployment}.1`)).toMatchObject({
    hostname: "web",
    vcpus: 1,
    memory_mb: 128,
    egress: true,
    ports: [{ guest_port: 8080, port: null }],
  });
});

test("a machine made from an image builds and ships in one operation", async () => {
  await using lab = await openLab();
  await lab.worker();
  const { build, instance, operation } = await lab.ask.create();
  expect((await lab.ended(operation)).state).toBe("completed");
  expect((await lab.store.build(null, build)).state).toBe("ready");
  expect((await lab.instance(instance)).state).toBe("running");
});

test("a build that fails within a shipment fails everything that waits for it", async () => {
  await using lab = await openLab();
  await lab.worker();
  lab.builder.script = [
    () => {
      throw new FormationError("not_found", "There is no such image.", { step: "pull" });
    },
  ];
  const { build, deployment, instance, operation } = await lab.ask.create();
  expect(await lab.ended(operation)).toMatchObject({ state: "failed", error: { step: "pull" } });
  expect((await lab.store.build(null, build)).state).toBe("failed");
  expect((await lab.store.deployment(null, deployment)).state).toBe("failed");
  expect(await lab.instance(instance)).toMatchObject({ state: "failed", error: { step: "pull" } });
});

test("a first shipment that fails leaves no machine, and an instance that says why in the guest's last lines", async () => {
  await using lab = await openLab();
  await lab.worker();
  const build = await built(lab);
  lab.hypervisor.on.waitLive = (id) => {
    lab.hypervisor.say(id, "cannot bind");
    throw new FormationError("invalid", "The entrypoint exited with code 2.", {
      step: "entrypoint",
      exit_code: 2,
    });
  };
  const { deployment, instance, operation } = await lab.ask.ship(build);
  const ended = await lab.ended(operation);
  expect(ended).toMatchObject({
    state: "failed",
    attempt: 1,
    error: { code: "invalid", step: "entrypoint", exit_code: 2, log_tail: ["cannot bind"] },
  });
  expect(ended.error?.remedy).toBeTruthy();
  expect(await lab.instance(instance)).toMatchObject({
    state: "failed",
    machine_id: null,
    deployment_id: null,
    error: ended.error,
  });
  expect((await lab.store.deployment(null, deployment)).state).toBe("failed");
  expect(lab.hypervisor.machines.size).toBe(0);

  lab.hypervisor.on = {};
  const again = await lab.ask.ship(build, { replace: instance });
  expect((await lab.ended(again.operation)).state).toBe("completed");
  expect(await lab.instance(instance)).toMatchObject({ state: "running", error: null });
});

for (const step of ["create", "start", "waitLive"] as const) {
  test(`a shipment cancelled during ${step} leaves nothing that runs`, async () => {
    await using lab = await openLab();
    await lab.worker();
    const build = await built(lab);
    let reached = () => {};
    const there = new Promise<void>((resolve) => {
      reached = resolve;
    });
    let go = () => {};
    const held = new Promise<void>((resolve) => {
      go = resolve;
    });
    lab.hypervisor.on[step] = async (_id, signal) => {
      reached();
      await Promise.race([held, aborted(signal)]);
    };
    const { deployment, instance, operation } = await lab.ask.ship(build);
    await there;
    await lab.store.requestCancel(null, operation.id);
    setTimeout(go, 700);
    expect(await lab.ended(operation)).toMatchObject({ state: "cancelled", error: { code: "cancelled" } });
    expect((await lab.store.deployment(null, deployment)).state).toBe("cancelled");
    expect((await lab.instance(instance)).state).toBe("failed");
    expect(lab.hypervisor.machines.size).toBe(0);
  });
}

test("a shipment cancelled while its disk is made leaves nothing", async () => {
  await using lab = await openLab();
  await lab.worker();
  const build = await built(lab);
  lab.builder.onDisk = (signal) => aborted(signal);
  const { instance, operation } = await lab.ask.ship(build);
  await lab.reaches(operation, (read) => read.progress?.step === "disk");
  await lab.store.requestCancel(null, operation.id);
  expect((await lab.ended(operation)).state).toBe("cancelled");
  expect((await lab.instance(instance)).state).toBe("failed");
  expect(lab.hypervisor.machines.size).toBe(0);
});

test("a replacement cancelled while the old machine stops starts it again", async () => {
  await using lab = await openLab();
  await lab.worker();
  const old = await live(lab);
  lab.hypervisor.on.stop = async () => {
    await new Promise((resolve) => setTimeout(resolve, 700));
  };
  const next = await lab.ask.ship(old.build, { replace: old.instance });
  await lab.until(old.instance, (read) => read.state === "stopping");
  await lab.store.requestCancel(null, next.operation.id);
  expect((await lab.ended(next.operation)).state).toBe("cancelled");
  expect(await lab.instance(old.instance)).toMatchObject({
    state: "running",
    machine_id: `${old.deployment}.1`,
  });
  expect([...lab.hypervisor.machines.values()].map((m) => [m.id, m.state])).toEqual([
    [`${old.deployment}.1`, "running"],
  ]);
});

test("when the old machine can't be started again either, the instance has failed and says so", async () => {
  await using lab = await openLab();
  await lab.worker();
  const old = await live(lab);
  lab.hypervisor.on.waitLive = () => {
    throw new FormationError("invalid", "The entrypoint exited with code 9.", { exit_code: 9 });
  };
  const next = await lab.ask.ship(old.build, { replace: old.instance });
  expect((await lab.ended(next.operation)).state).toBe("failed");
  const record = await lab.instance(old.instance);
  expect(record).toMatchObject({ state: "failed", machine_id: `${old.deployment}.1` });
  expect(record.error?.message).toMatch(/What ran before.*code 9/);
  expect([...lab.hypervisor.machines.values()].map((m) => m.state)).toEqual(["stopped"]);
});

test("a replacement stops the old machine, boots the new, and removes the old once the new is live", async () => {
  await using lab = await openLab();
  await lab.worker();
  const old = await live(lab);
  const build = await built(lab);
  const next = await lab.ask.ship(build, { replace: old.instance });
  expect((await lab.ended(next.operation)).state).toBe("completed");
  expect(await lab.instance(old.instance)).toMatchObject({
    state: "running",
    deployment_id: next.deployment,
    machine_id: `${next.deployment}.1`,
    build_id: build,
  });
  expect((await lab.store.deployment(null, old.deployment)).state).toBe("superseded");
  expect((await lab.store.deployment(null, next.deployment)).state).toBe("live");
  await expect.poll(() => [...lab.hypervisor.machines.keys()]).toEqual([`${next.deployment}.1`]);
  expect(lab.hypervisor.mostRunning).toBe(1);
});

test("a replacement that fails boots the old machine again", async () => {
  await using lab = await openLab();
  await lab.worker();
  const old = await live(lab);
  const build = await built(lab);
  lab.hypervisor.on.waitLive = (id) => {
    if (!id.startsWith(old.deployment)) throw new FormationError("limit", "Never live.", { step: "boot" });
  };
  const next = await lab.ask.ship(build, { replace: old.instance });
  expect(await lab.ended(next.operation)).toMatchObject({ state: "failed", error: { code: "limit" } });
  expect(await lab.instance(old.instance)).toMatchObject({
    state: "running",
    desired: "running",
    deployment_id: old.deployment,
    machine_id: `${old.deployment}.1`,
    error: null,
  });
  expect((await lab.store.deployment(null, next.deployment)).state).toBe("failed");
  expect((await lab.store.deployment(null, old.deployment)).state).toBe("live");
  expect([...lab.hypervisor.machines.values()].map((m) => [m.id, m.state])).toEqual([
    [`${old.deployment}.1`, "running"],
  ]);
  expect(lab.hypervisor.mostRunning).toBe(1);
});

test("a replacement that is cancelled boots the old machine again", async () => {
  await using lab = await openLab();
  await lab.worker();
  const old = await live(lab);
  const build = await built(lab);
  lab.hypervisor.on.waitLive = async (id, signal) => {
    if (!id.startsWith(old.deployment)) await aborted(signal);
  };
  const next = await lab.ask.ship(build, { replace: old.instance });
  await expect.poll(() => lab.hypervisor.calls).toContain(`waitLive ${next.deployment}.1`);
  await lab.store.requestCancel(null, next.operation.id);
  expect((await lab.ended(next.operation)).state).toBe("cancelled");
  expect(await lab.instance(old.instance)).toMatchObject({
    state: "running",
    machine_id: `${old.deployment}.1`,
  });
});

test("a stopped instance stays stopped when its replacement fails", async () => {
  await using lab = await openLab();
  await lab.worker();
  const old = await live(lab);
  expect((await lab.ended(await lab.ask.control(old.instance, "stop"))).state).toBe("completed");
  lab.hypervisor.on.waitLive = () => {
    throw new FormationError("limit", "Never live.", { step: "boot" });
  };
  const next = await lab.ask.ship(old.build, { replace: old.instance });
  expect((await lab.ended(next.operation)).state).toBe("failed");
  expect(await lab.instance(old.instance)).toMatchObject({
    state: "stopped",
    desired: "stopped",
    machine_id: `${old.deployment}.1`,
  });
  expect([...lab.hypervisor.machines.values()].map((m) => m.state)).toEqual(["stopped"]);
});

test("a shipment is tried again under a new machine name, and the machine of the first attempt is gone", async () => {
  await using lab = await openLab();
  await lab.worker();
  const build = await built(lab);
  let failures = 1;
  lab.hypervisor.on.start = () => {
    if (failures-- > 0) throw new FormationError("unavailable", "No memory just now.", { step: "boot" });
  };
  const { deployment, instance, operation } = await lab.ask.ship(build);
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect([...lab.hypervisor.machines.keys()]).toEqual([`${deployment}.2`]);
  expect((await lab.instance(instance)).machine_id).toBe(`${deployment}.2`);
});

test("an instance with formnet has a warning", async () => {
  await using lab = await openLab();
  await lab.worker();
  const build = await built(lab);
  const { instance, operation } = await lab.ask.ship(build, {
    config: { network: { join_formnet: true, external_networks: [] } },
  });
  await lab.ended(operation);
  expect((await lab.instance(instance)).warnings.join()).toContain("formnet");
});
