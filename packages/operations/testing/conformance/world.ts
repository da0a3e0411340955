// What the cases run in: a store, a clock that only the test moves, and short ways to make requests.

import { type Id, type IdKind, newId, type Operation } from "@formation-mcp/contract";
import type { Lease, NewDeployment, NewInstance, Store, Submission } from "@formation-mcp/operations";
import { expect } from "vitest";
import { buildRequest } from "../build-request.ts";

/** What a driver's own test gives to the suite for each case. */
export interface StoreHarness {
  store: Store;
  /** Opens the same data once more, as another process would. */
  reopen?: () => Promise<Store>;
  close(): Promise<void>;
}

/** Opens the same data once more, if the driver can. */
export type Reopen = () => Promise<Store | undefined>;

export interface TestClock {
  now(): number;
  /** Moves time on, by milliseconds. */
  pass(ms: number): void;
}

/**
 * A clock that stands still until `pass` moves it. It begins at a fixed time: no case depends on the date.
 */
export function testClock(): TestClock {
  let time = 1_700_000_000_000;
  return {
    now: () => time,
    pass: (ms) => {
      time += ms;
    },
  };
}

export const MINUTE = 60_000;
export const HOUR = 60 * MINUTE;
export const LEASE = 30_000;
export const FREE = { vcpus: 8, memory_mb: 16_384, disk_gb: 100 };
export const NEEDS = { vcpus: 1, memory_mb: 512, disk_gb: 5 };
export const SWEEP = { operationKeptMs: HOUR, strandedMs: 30_000, unusedBuildKeptMs: 7 * 24 * HOUR };
export const FAILURE = {
  code: "invalid" as const,
  message: "RUN 1/2 failed.",
  step: "run 1/2",
  exit_code: 1,
};

interface ShipOptions {
  /** Default `web`. */
  name?: string;
  owner?: string;
  /** The instance to replace. Default: a new one. */
  instance_id?: Id<"vm">;
  metadata?: Record<string, string>;
}

type ShipRequest = Submission & { deployment: NewDeployment; instance?: NewInstance };

export interface World {
  store: Store;
  clock: TestClock;
  node: Id<"node">;
  id<K extends IdKind>(kind: K): Id<K>;
  /** A request to build. */
  build(over?: Partial<Submission["operation"]>): ReturnType<typeof buildRequest>;
  /** A request to ship a build to a new instance, or to one that is there. */
  ship(build_id: Id<"bld">, over?: ShipOptions): ShipRequest;
  control(instance_id: Id<"vm">, over?: Partial<Submission["operation"]>): Submission;
  remove(instance_id: Id<"vm">, version: number): Submission;
  claim(over?: Partial<Parameters<Store["claim"]>[0]>): Promise<Operation | null>;
  lease(operation: Operation): Lease;
  /** Submits, claims and completes a build. */
  ready(owner?: string): Promise<Id<"bld">>;
  /** Submits, claims and completes a ship: the instance runs. */
  live(build_id: Id<"bld">, name?: string, metadata?: Record<string, string>): Promise<Id<"vm">>;
}

export const OWNER = "owner-1";

export function world(store: Store, clock: TestClock): World {
  const id = <K extends IdKind>(kind: K) => newId(kind, clock);
  const node = id("node");
  const base = (over: Partial<Submission["operation"]>) => ({
    id: id("op"),
    owner: OWNER,
    node_id: null,
    deadline_at: clock.now() + 24 * HOUR,
    ...over,
  });
  const self: World = {
    store,
    clock,
    node,
    id,
    build(over = {}) {
      return buildRequest({ build_id: id("bld"), operation: base(over), now: clock.now() });
    },
    ship: (build_id, over = {}) => {
      const instance_id = over.instance_id ?? id("vm");
      const ids = { deployment_id: id("dep"), instance_id, build_id };
      return shipRequest(ids, over, base({ owner: over.owner ?? OWNER }));
    },
    control: (instance_id, over = {}) => ({
      operation: {
        tool: "vm_control",
        subject: "vm.control.here",
        input: { kind: "control", instance_id, action: "stop" },
        target_id: instance_id,
        ...base(over),
      },
    }),
    remove: (instance_id, version) => ({
      operation: {
        tool: "vm_delete",
        subject: "vm.control.here",
        input: { kind: "delete", instance_id },
        target_id: instance_id,
        ...base({}),
      },
      desire: { instance_id, version, desired: "deleted" },
      cancelOthers: true,
    }),
    claim: (over = {}) =>
      store.claim({
        node_id: node,
        subjects: ["pack.build", "pack.ship", "vm.control.here"],
        free: FREE,
        leaseMs: LEASE,
        ...over,
      }),
    lease: (operation) => ({
      operation_id: operation.id,
      attempt: operation.attempt,
      node_id: operation.claimed_by ?? node,
    }),
    async ready(owner = OWNER) {
      const { build } = await store.submit(self.build({ owner })).then(({ operation }) => ({
        build: operation.target_id as Id<"bld">,
      }));
      const claimed = await claimFor(self, build);
      const lease = self.lease(claimed);
      await store.apply(lease, { builds: [{ id: build, patch: { state: "building" } }] });
      await store.settle(
        lease,
        { state: "completed" },
        { builds: [{ id: build, patch: { state: "ready", ended_at: clock.now() } }] },
      );
      return build;
    },
    async live(build_id, name = "web", metadata = {}) {
      const request = self.ship(build_id, { name, metadata });
      await store.submit(request);
      const vm = request.deployment.instance_id;
      const lease = self.lease(await claimFor(self, vm));
      const { id: deployment_id } = request.deployment;
      await store.apply(lease, { deployments: [{ id: deployment_id, patch: { state: "deploying" } }] });
      await store.settle(
        lease,
        { state: "completed" },
        {
          deployments: [{ id: deployment_id, patch: { state: "live" } }],
          instances: [{ id: vm, patch: { state: "running", deployment_id, node_id: node } }],
        },
      );
      return vm;
    },
  };
  return self;
}

/** Claims, and expects to get the operation on this record. */
async function claimFor(self: World, key: Id): Promise<Operation> {
  const operation = await self.claim();
  const input = operation?.input;
  expect(input && (input.kind === "build" ? input.build_id : input.instance_id)).toBe(key);
  return operation as Operation;
}

function shipRequest(
  ids: { deployment_id: Id<"dep">; instance_id: Id<"vm">; build_id: Id<"bld"> },
  { name = "web", owner = OWNER, instance_id, metadata = {} }: ShipOptions,
  base: Pick<Submission["operation"], "id" | "owner" | "node_id" | "deadline_at">,
): ShipRequest {
  const operation = {
    tool: "pack_ship",
    subject: "pack.ship",
    input: { kind: "ship" as const, ...ids },
    target_id: ids.deployment_id,
    ...base,
  };
  const config = {
    resources: NEEDS,
    metadata,
    host_ports: {},
    network: { join_formnet: false, external_networks: [] },
  };
  const deployment: NewDeployment = {
    id: ids.deployment_id,
    owner,
    build_id: ids.build_id,
    instance_id: ids.instance_id,
    instance_name: name,
    state: "queued",
    config,
    replace: instance_id !== undefined,
    machine_id: null,
    error: null,
    operation_id: operation.id,
    ended_at: null,
  };
  if (instance_id) return { operation, deployment };
  return {
    operation,
    deployment,
    instance: instanceRecord(ids.instance_id, owner, name, ids.build_id, config),
  };
}

function instanceRecord(
  id: Id<"vm">,
  owner: string,
  name: string,
  build_id: Id<"bld">,
  config: NewInstance["config"],
): NewInstance {
  return {
    id,
    owner,
    name,
    desired: "running",
    state: "creating",
    node_id: null,
    deployment_id: null,
    machine_id: null,
    build_id,
    config,
    warnings: [],
    observed: null,
    error: null,
  };
}

/** Whether a call is refused with this code. */
export async function refused(call: Promise<unknown>, code: string): Promise<void> {
  await expect(call).rejects.toMatchObject({ name: "FormationError", code });
}
