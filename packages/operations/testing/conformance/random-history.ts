// Random histories of operations: what must hold after every step.

import { canMove, hasEnded, LIMITS, OPERATION_STATES, type Operation } from "@formation-mcp/contract";
import type { Lease, Store } from "@formation-mcp/operations";
import fc from "fast-check";
import { expect, it } from "vitest";
import { FAILURE, LEASE, SWEEP, type World } from "./world.ts";

const CAPACITY = { vcpus: 4, memory_mb: 2048, disk_gb: 20 };
const NODES = 2;

type Step =
  | { do: "build" | "ship" | "control" | "sweep" | "cancel" | "claim"; n: number; size: number }
  | { do: "renew" | "report" | "end" | "giveBack"; n: number; size: number }
  | { do: "pass"; n: number; size: number };

/** Random histories of 20 to 80 steps. */
export const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.record({
    do: fc.constantFrom(
      ...(["build", "ship", "control", "sweep", "cancel", "claim", "claim", "claim"] as const),
      ...(["renew", "report", "end", "end", "giveBack", "pass"] as const),
    ),
    n: fc.nat(1000),
    size: fc.integer({ min: 1, max: 4 }),
  }),
  { minLength: 20, maxLength: 80 },
) as fc.Arbitrary<Step[]>;

/** An attempt that the test claimed. `over`: the test has ended it or given it back. */
interface Held extends Lease {
  until: number;
  over: boolean;
}

/** Runs random histories, each in a store of its own. */
export function describeRandomHistory(open: () => Promise<{ world: World; close(): Promise<void> }>): void {
  it("after any history: attempts rise, moves are legal, nothing is overbooked, void leases write nothing", async () => {
    await fc.assert(
      fc.asyncProperty(steps, async (list) => {
        const { world, close } = await open();
        try {
          await new History(world).run(list);
        } finally {
          await close();
        }
      }),
      { numRuns: 60, endOnFailure: false },
    );
  }, 120_000);
}

/**
 * Plays a history in an empty store, checks the invariants after every step, and leaves the store as it is
 * then.
 */
export async function play(world: World, list: Step[]): Promise<void> {
  await new History(world).play(list);
}

class History {
  readonly #world: World;
  readonly #nodes: Lease["node_id"][];
  readonly #held: Held[] = [];
  #seen = new Map<string, Operation>();

  constructor(world: World) {
    this.#world = world;
    this.#nodes = Array.from({ length: NODES }, () => world.id("node"));
  }

  async run(list: Step[]): Promise<void> {
    const { store, clock } = this.#world;
    await this.play(list);
    // Without any worker, every operation ends.
    for (let i = 0; i < 3; i++) {
      clock.pass(LIMITS.queuedMs + LEASE);
      await store.sweep({ ...SWEEP, operationKeptMs: 1e12 });
      await this.#check();
    }
    for (const operation of this.#seen.values()) expect(hasEnded(operation)).toBe(true);
    for (const { state } of (await store.builds({ owner: null, limit: 1000 })).items) {
      expect(["ready", "failed", "cancelled"]).toContain(state);
    }
    for (const { state } of (await store.deployments({ owner: null, limit: 1000 })).items) {
      expect(["queued", "deploying"]).not.toContain(state);
    }
  }

  async play(list: Step[]): Promise<void> {
    const { store } = this.#world;
    const builds = [await this.#world.ready(), await this.#world.ready()];
    const vms = [
      await this.#world.live(builds[0] as never, "a"),
      await this.#world.live(builds[1] as never, "b"),
    ];
    this.#seen = await this.#all();
    for (const step of list) {
      await this.#take(store, step, builds, vms);
      await this.#check();
    }
  }

  async #take(store: Store, step: Step, builds: string[], vms: string[]): Promise<void> {
    const { clock, build, ship, control } = this.#world;
    const pick = <T>(from: readonly T[]): T => from[step.n % from.length] as T;
    const needs = { vcpus: step.size, memory_mb: 256 * step.size, disk_gb: step.size };
    if (step.do === "pass") clock.pass((step.n % 100) * 1000);
    else if (step.do === "build") await store.submit(build({ needs }));
    else if (step.do === "ship")
      await tolerate(store.submit(ship(pick(builds) as never, { name: `n${step.n % 3}` })));
    else if (step.do === "control") {
      const instance_id = pick(vms) as never;
      const action = step.size > 2 ? "start" : "stop";
      await store.submit(control(instance_id, { input: { kind: "control", instance_id, action } }));
    } else if (step.do === "sweep") await store.sweep({ ...SWEEP, operationKeptMs: 1e12 });
    else if (step.do === "cancel" && this.#seen.size > 0) {
      await store.requestCancel(null, pick([...this.#seen.values()]).id);
    } else if (step.do === "claim") await this.#claim(pick(this.#nodes));
    else if (this.#held.length > 0) await this.#write(store, pick(this.#held), step);
  }

  async #claim(node_id: Lease["node_id"]): Promise<void> {
    const { world } = { world: this.#world };
    const now = world.clock.now();
    const mine = [...this.#seen.values()].filter(
      (operation) => operation.claimed_by === node_id && operation.state === "running",
    );
    const free = mine.reduce(
      (left, { needs }) => ({
        vcpus: left.vcpus - needs.vcpus,
        memory_mb: left.memory_mb - needs.memory_mb,
        disk_gb: left.disk_gb - needs.disk_gb,
      }),
      CAPACITY,
    );
    const operation = await world.claim({ node_id, free });
    if (!operation) return;
    expect(operation.lease_until).toBe(now + LEASE);
    expect(operation.needs.vcpus).toBeLessThanOrEqual(free.vcpus);
    expect(operation.needs.memory_mb).toBeLessThanOrEqual(free.memory_mb);
    expect(operation.needs.disk_gb).toBeLessThanOrEqual(free.disk_gb);
    expect(operation.attempt).toBe((this.#seen.get(operation.id)?.attempt ?? 0) + 1);
    this.#held.push({ ...world.lease(operation), until: now + LEASE, over: false });
  }

  async #write(store: Store, held: Held, step: Step): Promise<void> {
    const now = this.#world.clock.now();
    const lease = { operation_id: held.operation_id, attempt: held.attempt, node_id: held.node_id };
    const valid = !held.over && now < held.until;
    const before = await store.operation(null, held.operation_id);
    const error = FAILURE;
    const write = {
      renew: () => store.renew(lease, LEASE),
      report: () => store.report(lease, { step: "s", message: "m", fraction: null }),
      end: () => store.settle(lease, { state: "failed", error }),
      giveBack: () => store.settle(lease, { state: "queued", run_at: now + 1000 * step.n, error }),
    }[step.do as "renew" | "report" | "end" | "giveBack"];
    if (!valid) {
      await expect(write()).rejects.toMatchObject({ code: "conflict" });
      expect(await store.operation(null, held.operation_id)).toEqual(before);
      return;
    }
    await write();
    if (step.do === "renew") held.until = (await store.operation(null, held.operation_id)).lease_until ?? 0;
    if (step.do === "end" || step.do === "giveBack") held.over = true;
  }

  async #all(): Promise<Map<string, Operation>> {
    const { items } = await this.#world.store.operations({ owner: null, limit: 1000 });
    return new Map(items.map((operation) => [operation.id, operation]));
  }

  async #check(): Promise<void> {
    const all = await this.#all();
    const busy = new Set<string>();
    for (const operation of all.values()) {
      const before = this.#seen.get(operation.id);
      if (before) {
        expect(operation.attempt).toBeGreaterThanOrEqual(before.attempt);
        expect(operation.version).toBeGreaterThanOrEqual(before.version);
        if (before.version === operation.version) expect(operation).toEqual(before);
        // A claim takes an operation from a silent worker and passes through `queued`.
        expect(canMove(OPERATION_STATES, before.state, operation.state)).toBe(true);
      }
      expect(operation.attempt).toBeLessThanOrEqual(LIMITS.attempts);
      expect(operation.ended_at !== null).toBe(hasEnded(operation));
      expect(operation.claimed_by !== null).toBe(operation.state === "running");
      if (operation.state === "failed" || operation.state === "cancelled")
        expect(operation.error).not.toBeNull();
      if (operation.state === "running" && operation.input.kind !== "build") {
        expect(busy.has(operation.input.instance_id)).toBe(false);
        busy.add(operation.input.instance_id);
      }
    }
    this.#seen = all;
  }
}

/** Waits for a call that may fail because the name is taken. */
async function tolerate(call: Promise<unknown>): Promise<void> {
  await call.catch((error) => expect(error).toMatchObject({ code: "conflict" }));
}
