import {
  controlSubject,
  FormationError,
  type Id,
  LIMITS,
  type Operation,
  SUBJECTS,
} from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { type Lab, openLab } from "./support/lab.ts";
import { aborted } from "./support/scripted-drivers.ts";

const ALL = { vcpus: 99, memory_mb: 99_999, disk_gb: 9999 };

/** Claims as a worker that is killed right after does. */
async function claimAndDie(lab: Lab): Promise<Operation> {
  const operation = await lab.store.claim({
    node_id: lab.node,
    subjects: [SUBJECTS.build, SUBJECTS.ship, controlSubject(lab.node)],
    free: ALL,
    leaseMs: 30_000,
  });
  if (!operation) throw new Error("nothing to claim");
  return operation;
}

async function halfShipped(lab: Lab, deployment: Id<"dep">, operation: Operation): Promise<string> {
  const machine = `${deployment}.${operation.attempt}`;
  const lease = { operation_id: operation.id, attempt: operation.attempt, node_id: lab.node };
  const { input } = operation;
  if (input.kind !== "ship") throw new Error("no shipment");
  await lab.store.apply(lease, {
    deployments: [{ id: deployment, patch: { state: "deploying", machine_id: machine } }],
    instances: [{ id: input.instance_id, patch: { node_id: lab.node } }],
  });
  await lab.hypervisor.create({
    id: machine,
    hostname: "x",
    disk: "/x",
    vcpus: 1,
    memory_mb: 128,
    process: { argv: ["/x"], env: {}, workdir: "/", user: "" },
    ports: [{ guest_port: 8080, port: null }],
    egress: false,
  });
  await lab.hypervisor.start(machine, { signal: new AbortController().signal });
  return machine;
}

test("a shipment of a killed worker is taken over at once: its machine is removed, the next attempt is live", async () => {
  await using lab = await openLab();
  const { deployment, instance, operation } = await lab.ask.create();
  await halfShipped(lab, deployment, await claimAndDie(lab));
  await lab.worker();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect([...lab.hypervisor.machines.keys()]).toEqual([`${deployment}.2`]);
  expect(await lab.instance(instance)).toMatchObject({ state: "running", machine_id: `${deployment}.2` });
  expect(lab.hypervisor.mostRunning).toBe(1);
});

test("an operation whose worker was killed three times fails and says so", async () => {
  await using lab = await openLab();
  const { deployment, instance, operation } = await lab.ask.create();
  for (let attempt = 1; attempt <= 3; attempt++) {
    const claimed = await claimAndDie(lab);
    await halfShipped(lab, deployment, claimed);
    const error = { code: "unavailable" as const, message: "x" };
    const lease = { operation_id: claimed.id, attempt, node_id: lab.node };
    if (attempt < 3) await lab.store.settle(lease, { state: "queued", run_at: 0, error });
  }
  await lab.worker();
  const ended = await lab.ended(operation);
  expect(ended).toMatchObject({ state: "failed", attempt: 3, error: { code: "unavailable" } });
  expect(ended.error?.message).toMatch(/worker ended.*3 times/);
  expect((await lab.store.deployment(null, deployment)).state).toBe("failed");
  expect((await lab.instance(instance)).state).toBe("failed");
  expect(lab.hypervisor.machines.size).toBe(0);
});

test("a cancel that a killed worker did not see still takes effect", async () => {
  await using lab = await openLab();
  const { deployment, operation } = await lab.ask.create();
  await halfShipped(lab, deployment, await claimAndDie(lab));
  await lab.store.requestCancel(null, operation.id);
  await lab.worker();
  expect(await lab.ended(operation)).toMatchObject({ state: "cancelled", attempt: 1 });
  expect(lab.hypervisor.machines.size).toBe(0);
});

test("a replacement that a killed worker left with the old machine stopped ends with exactly one machine", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const old = await lab.ask.create();
  await lab.ended(old.operation);
  await first.stop();
  const next = await lab.ask.ship(old.build, { replace: old.instance });
  const claimed = await claimAndDie(lab);
  const lease = { operation_id: claimed.id, attempt: 1, node_id: lab.node };
  await lab.store.apply(lease, { instances: [{ id: old.instance, patch: { state: "stopping" } }] });
  await lab.hypervisor.stop(`${old.deployment}.1`, { timeoutMs: 1 });
  await lab.store.apply(lease, { instances: [{ id: old.instance, patch: { state: "starting" } }] });
  await halfShipped(lab, next.deployment, claimed);
  await lab.worker();
  expect(await lab.ended(next.operation)).toMatchObject({ state: "completed", attempt: 2 });
  expect(await lab.instance(old.instance)).toMatchObject({
    state: "running",
    machine_id: `${next.deployment}.2`,
  });
  await expect.poll(() => [...lab.hypervisor.machines.keys()]).toEqual([`${next.deployment}.2`]);
  expect(lab.hypervisor.mostRunning).toBe(1);
});

test("a delete of a killed worker is finished by the next one", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  const { instance, operation } = await lab.ask.create();
  await lab.ended(operation);
  await first.stop();
  const removal = await lab.ask.remove(instance);
  const claimed = await claimAndDie(lab);
  await lab.store.apply(
    { operation_id: claimed.id, attempt: 1, node_id: lab.node },
    { instances: [{ id: instance, patch: { state: "deleting" } }] },
  );
  await lab.worker();
  expect((await lab.ended(removal)).state).toBe("completed");
  expect((await lab.instance(instance)).state).toBe("deleted");
  expect(lab.hypervisor.machines.size).toBe(0);
});

test("a stopped worker gives back what it runs, and the next one goes on with it", async () => {
  await using lab = await openLab();
  const first = await lab.worker();
  lab.builder.script = [
    (_request, hooks) =>
      new Promise((_resolve, reject) =>
        hooks.signal.addEventListener("abort", () => reject(new FormationError("cancelled", "Ended."))),
      ),
  ];
  const { operation } = await lab.ask.build();
  await lab.reaches(operation, (read) => read.progress?.step === "pull");
  await first.stop();
  expect(await lab.store.operation(null, operation.id)).toMatchObject({
    state: "queued",
    attempt: 1,
    error: { code: "unavailable", message: expect.stringContaining("left") },
  });
  await lab.worker();
  expect(await lab.ended(operation)).toMatchObject({ state: "completed", attempt: 2 });
});

test("an operation in its last attempt fails when the worker leaves, and is not said to go on", async () => {
  await using lab = await openLab();
  const { build, operation } = await lab.ask.build();
  const error = { code: "unavailable" as const, message: "x" };
  for (let attempt = 1; attempt < LIMITS.attempts; attempt++) {
    const { id } = await claimAndDie(lab);
    const lease = { operation_id: id, attempt, node_id: lab.node };
    await lab.store.settle(lease, { state: "queued", run_at: 0, error });
  }
  lab.builder.script = [(_request, hooks) => aborted(hooks.signal)];
  const worker = await lab.worker();
  await lab.reaches(operation, (read) => read.progress?.step === "pull");
  await worker.stop();
  const ended = await lab.store.operation(null, operation.id);
  expect(ended).toMatchObject({
    state: "failed",
    error: {
      code: "unavailable",
      message: expect.stringMatching(/left.*Tried 3 times/),
      remedy: "Try again.",
    },
  });
  expect(await lab.store.build(null, build)).toMatchObject({ state: "failed", error: ended.error });
});

test("a draining worker claims nothing more and finishes what runs", async () => {
  await using lab = await openLab();
  const worker = await lab.worker();
  let go = () => {};
  lab.builder.script = [
    () =>
      new Promise<void>((resolve) => {
        go = resolve;
      }),
  ];
  const running = await lab.ask.build();
  await lab.reaches(running.operation, (read) => read.progress?.step === "pull");
  const drained = worker.drain();
  const waiting = await lab.ask.build();
  await expect.poll(async () => (await lab.store.nodes())[0]?.draining).toBe(true);
  go();
  await drained;
  expect((await lab.store.operation(null, running.operation.id)).state).toBe("completed");
  expect((await lab.store.operation(null, waiting.operation.id)).state).toBe("queued");
});

test("an operation that a drain can't wait for is given back", async () => {
  await using lab = await openLab();
  const worker = await lab.worker();
  lab.builder.script = [
    (_request, hooks) =>
      new Promise((_resolve, reject) =>
        hooks.signal.addEventListener("abort", () => reject(new FormationError("cancelled", "Ended."))),
      ),
  ];
  const { operation } = await lab.ask.build();
  await lab.reaches(operation, (read) => read.progress?.step === "pull");
  await worker.drain(20);
  expect((await lab.store.operation(null, operation.id)).state).toBe("queued");
});

test.each(["stop", "drain"] as const)(
  "an operation that is claimed while a worker begins to %s is given back too",
  async (how) => {
    await using lab = await openLab();
    const { operation } = await lab.ask.build();
    const claimed = Promise.withResolvers<void>();
    const answer = Promise.withResolvers<void>();
    const worker = await lab.worker({
      store: {
        ...lab.store,
        async claim(request) {
          const found = await lab.store.claim(request);
          if (found) claimed.resolve();
          await answer.promise;
          return found;
        },
      },
    });
    lab.builder.script = [(_request, hooks) => aborted(hooks.signal)];
    await claimed.promise;
    const left = how === "stop" ? worker.stop() : worker.drain(0);
    // The time limit of the drain has passed when the claim is answered.
    setTimeout(answer.resolve, 100);
    await left;
    expect(await lab.store.operation(null, operation.id)).toMatchObject({ state: "queued", attempt: 1 });
  },
);

test("a worker is idle when nothing is queued and nothing runs, and not before", async () => {
  await using lab = await openLab();
  const worker = await lab.worker();
  expect(await worker.idle()).toBe(true);
  const { instance, operation } = await lab.ask.create();
  expect(await worker.idle()).toBe(false);
  await lab.ended(operation);
  expect(await worker.idle()).toBe(false);
  await lab.ended(await lab.ask.control(instance, "stop"));
  await expect.poll(() => worker.idle()).toBe(true);
  await lab.ended(await lab.ask.remove(instance));
  await expect.poll(() => worker.idle()).toBe(true);
});

test("scratch files of a killed worker are gone after the next start", async () => {
  const { mkdirSync, existsSync, writeFileSync } = await import("node:fs");
  await using lab = await openLab();
  mkdirSync(`${lab.directory}/scratch/bld_old.1/context`, { recursive: true });
  writeFileSync(`${lab.directory}/scratch/bld_old.1/context/a`, "x");
  await lab.worker();
  expect(existsSync(`${lab.directory}/scratch/bld_old.1`)).toBe(false);
});
