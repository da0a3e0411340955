// Operations, builds and instances under many calls at the same moment, through several connections: the
// outcome is one that some order of the calls, one after another, explains.

import { type Id, NO_QUOTA, type Operation } from "@formation-mcp/contract";
import { expect, it } from "vitest";
import { CALLERS, EACH_CALLER, openCrowd, outcomes } from "./crowd.ts";
import { FAILURE, HOUR, OWNER, type Reopen, SWEEP, type World, world } from "./world.ts";

/** Submissions at the same moment. */
export function describeConcurrentSubmissions(open: () => World, reopen: Reopen): void {
  const crowd = () => openCrowd(open, reopen);

  it("a key used by many at once makes one operation, which all of them get", async () => {
    const { here, one } = await crowd();
    for (let round = 0; round < 3; round++) {
      const idempotency = { key: `k${round}`, inputDigest: "d" };
      const answers = await Promise.all(
        EACH_CALLER.map((n) => one(n).submit({ ...here.build(), idempotency })),
      );
      expect(new Set(answers.map(({ operation }) => operation.id)).size).toBe(1);
      expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    }
    expect((await here.store.operations({ owner: null, limit: 100 })).items).toHaveLength(3);
  });

  it("of many ships under one name one succeeds, and the others get a conflict", async () => {
    const { here, one } = await crowd();
    const bld = await here.ready();
    for (const name of ["a", "b", "c"]) {
      const { made, codes } = await outcomes(EACH_CALLER.map((n) => one(n).submit(here.ship(bld, { name }))));
      expect(made).toHaveLength(1);
      expect(codes).toEqual(Array(CALLERS - 1).fill("conflict"));
    }
    expect((await here.store.instances({ owner: OWNER, limit: 100 })).items).toHaveLength(3);
  });

  it("the last places of a quota are given once, of builds and of operations per minute alike", async () => {
    const { here, one } = await crowd();
    const limits = [{ builds: 5 }, { operations_per_minute: 5 }];
    for (const [round, limit] of limits.entries()) {
      const owner = `o${round}`;
      const quota = { ...NO_QUOTA, ...limit };
      const calls = EACH_CALLER.map((n) => one(n).submit({ ...here.build({ owner }), quota }));
      const { made, codes } = await outcomes(calls);
      expect(made).toHaveLength(5);
      expect(codes).toEqual(Array(CALLERS - 5).fill("limit"));
    }
  });
}

/** Workers that claim, report and end attempts at the same moment. */
export function describeConcurrentClaims(open: () => World, reopen: Reopen): void {
  const crowd = () => openCrowd(open, reopen);

  it("each operation is claimed by one, none is left, and none runs beside another on its instance", async () => {
    const { here, one } = await crowd();
    const bld = await here.ready();
    const vms = [await here.live(bld, "a"), await here.live(bld, "b"), await here.live(bld, "c")];
    const submitting = Array.from({ length: 60 }, (_, n) =>
      one(n).submit(n % 2 ? here.build() : here.control(vms[n % vms.length] as Id<"vm">)),
    );
    const running = new Map<string, string>();
    const done: string[] = [];
    const worker = async (n: number) => {
      const mine = world(one(n), here.clock);
      for (let idle = 0; idle < 3; ) {
        const operation = await mine.claim();
        idle = operation ? 0 : idle + 1;
        if (!operation) await Promise.all(submitting);
        if (!operation) continue;
        const key = operation.input.kind === "build" ? operation.id : operation.input.instance_id;
        expect(running.get(key)).toBeUndefined();
        running.set(key, operation.id);
        await mine.store.renew(mine.lease(operation), 30_000);
        running.delete(key);
        await mine.store.settle(mine.lease(operation), { state: "failed", error: FAILURE });
        done.push(operation.id);
      }
    };
    await Promise.all(EACH_CALLER.slice(0, 8).map(worker));
    const all = (await Promise.all(submitting)).map(({ operation }) => operation.id);
    // A claim that found the row locked by another transaction is tried again.
    while (await hasQueued(here)) await worker(0);
    expect(done.sort()).toEqual(all.sort());
  });

  it("a silent worker's operations go to one claimer each, with sweeps between, and no attempt twice", async () => {
    const { here, one } = await crowd();
    for (let n = 0; n < 20; n++) await here.store.submit(here.build());
    for (let n = 0; n < 20; n++) await here.claim();
    here.clock.pass(HOUR);
    const calls = EACH_CALLER.map(async (n) => {
      const got: string[] = [];
      if (n % 4 === 0) await one(n).sweep(SWEEP);
      for (;;) {
        const operation = await world(one(n), here.clock).claim();
        if (!operation) return got;
        got.push(`${operation.id} ${operation.attempt}`);
      }
    });
    const claimed = (await Promise.all(calls)).flat();
    for (let more = await here.claim(); more; more = await here.claim()) {
      claimed.push(`${more.id} ${more.attempt}`);
    }
    expect(claimed).toHaveLength(20);
    expect(new Set(claimed).size).toBe(20);
    expect(claimed.every((each) => each.endsWith(" 2"))).toBe(true);
  });

  it("an attempt ends once, whoever else ends it, cancels it or gives it back", async () => {
    const { here, one } = await crowd();
    for (let round = 0; round < 10; round++) {
      await here.store.submit(here.build());
      const operation = (await here.claim()) as Operation;
      const lease = here.lease(operation);
      const ready = {
        builds: [{ id: operation.target_id as Id<"bld">, patch: { state: "building" as const } }],
      };
      const { made } = await outcomes<unknown>([
        one(0).settle(lease, { state: "failed", error: FAILURE }),
        one(1).settle(lease, { state: "queued", run_at: here.clock.now() + HOUR, error: FAILURE }),
        one(2).requestCancel(OWNER, operation.id),
        one(0).settle(lease, { state: "failed", error: FAILURE }),
        one(1).apply(lease, ready),
      ]);
      expect(made.length).toBeLessThanOrEqual(3);
      const now = await here.store.operation(OWNER, operation.id);
      const build = await here.store.build(OWNER, operation.target_id as Id<"bld">);
      if (now.state === "queued") expect(build.state).toBe("queued");
      else expect(["failed", "cancelled"]).toContain(now.state);
      if (now.state !== "queued") expect(build.state).toBe(now.state);
      await here.store.requestCancel(OWNER, operation.id);
    }
  });
}

/** Cancels, deletes and ships of one instance or build at the same moment. */
export function describeConcurrentDesires(open: () => World, reopen: Reopen): void {
  const crowd = () => openCrowd(open, reopen);

  it("the desired state that was set last holds, whatever is cancelled at the same moment", async () => {
    const { here, one } = await crowd();
    const vm = await here.live(await here.ready());
    const wish = async (n: number, desired: "stopped" | "paused") => {
      for (;;) {
        const { version } = await one(n).instance(OWNER, vm);
        const request = { ...here.control(vm), desire: { instance_id: vm, version, desired } };
        const { made } = await outcomes([one(n).submit(request)]);
        if (made[0]) return made[0].operation;
      }
    };
    for (let round = 0; round < 5; round++) {
      const older = await wish(0, "stopped");
      await Promise.all([wish(1, "stopped"), one(2).requestCancel(OWNER, older.id), wish(0, "paused")]);
      const unfinished = await here.store.operations({ owner: OWNER, states: ["queued"], limit: 10 });
      expect(unfinished.items).toHaveLength(2);
      expect((await here.store.instance(OWNER, vm)).desired).not.toBe("running");
      // All are taken back at once: then nothing was wished.
      await Promise.all(unfinished.items.map(({ id }, n) => one(n).requestCancel(OWNER, id)));
      expect((await here.store.instance(OWNER, vm)).desired).toBe("running");
    }
  });

  it("a delete that races with what it cancels leaves one queued delete", async () => {
    const { here, one } = await crowd();
    const bld = await here.ready();
    for (let round = 0; round < 5; round++) {
      const vm = await here.live(bld, `n${round}`);
      await here.store.submit(here.control(vm));
      const running = (await here.claim()) as Operation;
      const controls = EACH_CALLER.slice(0, 4).map(() => here.control(vm));
      const { version } = await here.store.instance(OWNER, vm);
      const remove = here.remove(vm, version);
      const { codes } = await outcomes<unknown>([
        one(0).submit(remove),
        ...controls.map((request, n) => one(n).submit(request)),
        ...controls.map((request, n) => one(n + 1).requestCancel(OWNER, request.operation.id)),
        one(2).settle(here.lease(running), { state: "failed", error: FAILURE }),
      ]);
      expect(codes.every((code) => code === "not_found" || code === "conflict")).toBe(true);
      expect((await here.store.operation(OWNER, remove.operation.id)).state).toBe("queued");
      expect((await here.store.instance(OWNER, vm)).desired).toBe("deleted");
      const left = await here.store.operations({ owner: OWNER, states: ["queued"], limit: 100 });
      for (const { id } of left.items) await here.store.requestCancel(OWNER, id);
    }
  });

  it("a build that is being shipped is not removed as unused at the same moment", async () => {
    const { here, one } = await crowd();
    for (let round = 0; round < 8; round++) {
      const bld = await here.ready();
      here.clock.pass(SWEEP.unusedBuildKeptMs);
      const { made } = await outcomes<unknown>([
        one(0).submit(here.ship(bld, { name: `n${round}` })),
        one(1).sweep({ ...SWEEP, operationKeptMs: 1e12, strandedMs: 1e12 }),
        one(2).sweep({ ...SWEEP, operationKeptMs: 1e12, strandedMs: 1e12 }),
      ]);
      const instance = await here.store.instanceByName(OWNER, `n${round}`);
      const there = await here.store.build(OWNER, bld).catch(() => null);
      expect(there !== null).toBe(instance !== null);
      expect(made.length).toBeGreaterThanOrEqual(2);
      const left = await here.store.operations({ owner: OWNER, states: ["queued"], limit: 100 });
      for (const { id } of left.items) await here.store.requestCancel(OWNER, id);
    }
  });
}

async function hasQueued({ store }: World): Promise<boolean> {
  return (await store.operations({ owner: null, states: ["queued"], limit: 1 })).items.length > 0;
}
