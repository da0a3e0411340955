// The store says what operations need, and a node counts what it has free. Both go by the contract's tables:
// in every state of an instance, on every legal way through them, they count the same.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  CONTROL_ACTIONS,
  type ControlAction,
  controlSubject,
  type Id,
  INSTANCE_STATES,
  type Instance,
  type InstanceState,
  newId,
  type Operation,
} from "@formation-mcp/contract";
import type { Store, Submission } from "@formation-mcp/operations";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { freeCapacity } from "../src/claim/capacity.ts";
import { statePath } from "../src/machines/state-path.ts";
import { requests } from "./support/requests.ts";

type Resources = Operation["needs"];
type Work = ControlAction | "ship" | "delete";

const CAPACITY: Resources = { vcpus: 100, memory_mb: 100_000, disk_gb: 1000 };
const WORKS: readonly Work[] = ["ship", "delete", ...CONTROL_ACTIONS];
const STARTING: readonly Work[] = ["start", "restart", "resume", "ship"];

const directory = mkdtempSync(join(tmpdir(), "capacity-"));
let store: Store;

beforeAll(async () => {
  store = await openSqliteStore({ path: join(directory, "store.db") });
});

afterAll(async () => {
  await store.close();
  rmSync(directory, { recursive: true, force: true });
});

const resources = fc.record({
  vcpus: fc.integer({ min: 1, max: 8 }),
  memory_mb: fc.integer({ min: 64, max: 4096 }),
  disk_gb: fc.integer({ min: 1, max: 20 }),
});

/** A legal way through the states, from `running` on; at its end an instance is perhaps deleted. */
const ways: fc.Arbitrary<InstanceState[]> = fc
  .array(fc.nat(), { minLength: 1, maxLength: 8 })
  .map((choices) => {
    const way: InstanceState[] = ["running"];
    for (const choice of choices) {
      const next: readonly InstanceState[] = INSTANCE_STATES[way.at(-1) ?? "running"];
      const state = next[choice % next.length];
      if (state === undefined) break;
      way.push(state);
    }
    return way;
  });

interface Play {
  own: Resources;
  wanted: Resources;
  way: InstanceState[];
  work: Work;
  /** In which state of the way the work is asked for. */
  begun: number;
}

test("a node and the store count the same on every legal move between the states", async () => {
  const own = { vcpus: 2, memory_mb: 512, disk_gb: 5 };
  const wanted = { vcpus: 3, memory_mb: 256, disk_gb: 7 };
  for (const from of Object.keys(INSTANCE_STATES) as InstanceState[]) {
    const way: InstanceState[] = ["running", ...statePath("running", from)];
    if (way.at(-1) !== from) continue; // An instance that is `creating` never had a machine.
    for (const to of INSTANCE_STATES[from]) {
      for (const work of WORKS) await play({ own, wanted, way: [...way, to], work, begun: way.length - 1 });
    }
  }
}, 120_000);

test("a node and the store count the same on any legal way through the states", async () => {
  await fc.assert(
    fc.asyncProperty(
      resources,
      resources,
      ways,
      fc.constantFrom(...WORKS),
      fc.nat(),
      (own, wanted, way, work, at) => play({ own, wanted, way, work, begun: at % way.length }),
    ),
    { numRuns: 100 },
  );
}, 120_000);

async function play({ own, wanted, way, work, begun }: Play): Promise<void> {
  const node = newId("node");
  const vm = await live(node, own);
  let asked: Operation | null = null;
  for (const [index, state] of way.entries()) {
    await become(vm, state);
    const used = await usedOn(node, []);
    expect(used).toEqual(await useOf(node));
    if (state === "deleted") break;
    if (index === begun) asked = await submit(vm, work, wanted, true);
    if (!asked) continue;
    const { needs } = await store.operation(null, asked.id);
    const again = await submit(vm, work, wanted, false);
    await store.requestCancel(null, again.id);
    expect(needs, "what waits needs what it would need if it were asked for now").toEqual(again.needs);
    // It may have been claimed in an earlier state, when it needed something else.
    expect(await usedOn(node, [asked])).toEqual(sum(used, needs));
    if (!STARTING.includes(work)) continue;
    const after = work === "ship" ? wanted : own;
    expectRoom(sum(used, needs), after);
    const { machine_id } = await store.instance(null, vm);
    const machine = { id: machine_id ?? "", state: "running" as const };
    // A machine that runs whatever its record says is stopped before another starts: the larger of both is
    // taken.
    expect(await usedOn(node, [asked], [machine])).toMatchObject({
      vcpus: Math.max(own.vcpus, after.vcpus),
      memory_mb: Math.max(own.memory_mb, after.memory_mb),
    });
  }
  if (asked) await store.requestCancel(null, asked.id);
}

/** What a node counts as taken while these operations run on it. */
async function usedOn(
  node: Id<"node">,
  running: Operation[],
  machines: { id: string; state: "running" }[] = [],
): Promise<Resources> {
  const hypervisor = { list: async () => machines } as never;
  const identity = { id: node, capacity: CAPACITY } as never;
  const free = await freeCapacity({ store, node: identity, hypervisor }, running);
  return {
    vcpus: CAPACITY.vcpus - free.vcpus,
    memory_mb: CAPACITY.memory_mb - free.memory_mb,
    disk_gb: CAPACITY.disk_gb - free.disk_gb,
  };
}

/** What the store counts as taken on a node. */
async function useOf(node: Id<"node">): Promise<Resources> {
  const use = (await store.nodeUse()).find(({ node_id }) => node_id === node);
  return { vcpus: use?.vcpus ?? 0, memory_mb: use?.memory_mb ?? 0, disk_gb: use?.disk_gb ?? 0 };
}

function sum(a: Resources, b: Resources): Resources {
  return {
    vcpus: a.vcpus + b.vcpus,
    memory_mb: a.memory_mb + b.memory_mb,
    disk_gb: a.disk_gb + b.disk_gb,
  };
}

function expectRoom(counted: Resources, { vcpus, memory_mb }: Resources): void {
  expect(counted.vcpus).toBeGreaterThanOrEqual(vcpus);
  expect(counted.memory_mb).toBeGreaterThanOrEqual(memory_mb);
}

async function become(vm: Id<"vm">, state: InstanceState): Promise<void> {
  await store.observe(vm, (await store.instance(null, vm)).version, { state });
}

/** An instance that runs on a node. */
async function live(node: Id<"node">, own: Resources): Promise<Id<"vm">> {
  const made = await requests(store, null).create({ resources: own });
  const claimed = await store.claim({
    node_id: node,
    subjects: ["pack.ship"],
    free: CAPACITY,
    leaseMs: 60_000,
  });
  expect(claimed?.id).toBe(made.operation.id);
  const lease = { operation_id: made.operation.id, attempt: 1, node_id: node };
  await store.apply(lease, {
    builds: [{ id: made.build, patch: { state: "building" } }],
    deployments: [{ id: made.deployment, patch: { state: "deploying" } }],
  });
  const machine_id = `${made.deployment}.1`;
  await store.settle(
    lease,
    { state: "completed" },
    {
      builds: [{ id: made.build, patch: { state: "ready" } }],
      deployments: [{ id: made.deployment, patch: { state: "live", machine_id } }],
      instances: [
        {
          id: made.instance,
          patch: { state: "running", node_id: node, deployment_id: made.deployment, machine_id },
        },
      ],
    },
  );
  return made.instance;
}

const DESIRED: Record<Work, Instance["desired"]> = {
  ship: "running",
  start: "running",
  restart: "running",
  resume: "running",
  stop: "stopped",
  pause: "paused",
  delete: "deleted",
};

/**
 * Asks for something to be done with an instance, on its node. @param wishes whether its owner's desire
 * changes with it.
 */
async function submit(vm: Id<"vm">, work: Work, wanted: Resources, wishes: boolean): Promise<Operation> {
  const instance = await store.instance(null, vm);
  const node_id = instance.node_id as Id<"node">;
  const { owner, build_id, version } = instance;
  const deployment_id = newId("dep");
  const input: Operation["input"] =
    work === "ship"
      ? { kind: "ship", deployment_id, instance_id: vm, build_id }
      : work === "delete"
        ? { kind: "delete", instance_id: vm }
        : { kind: "control", instance_id: vm, action: work };
  const operation = {
    id: newId("op"),
    owner,
    tool: "test",
    subject: controlSubject(node_id),
    input,
    target_id: vm,
    node_id,
    deadline_at: Date.now() + 3_600_000,
  };
  const submission: Submission = { operation };
  if (wishes) submission.desire = { instance_id: vm, version, desired: DESIRED[work] };
  if (work === "ship") {
    submission.deployment = {
      id: deployment_id,
      owner,
      build_id,
      instance_id: vm,
      instance_name: instance.name,
      state: "queued",
      config: { ...instance.config, resources: wanted },
      replace: true,
      machine_id: null,
      error: null,
      operation_id: operation.id,
      ended_at: null,
    };
  }
  return (await store.submit(submission)).operation;
}
