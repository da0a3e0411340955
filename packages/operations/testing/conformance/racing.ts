// Laws of many at once: whatever is asked for at the same moment through several connections, the outcome is one that some
// order of the requests explains.

import { type Id, NO_QUOTA, type Operation } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { expect, it } from "vitest";
import { FAILURE, HOUR, OWNER, SWEEP, type World, world } from "./world.ts";

const MANY = 12;
const EVERYBODY = [...Array(MANY).keys()];

/** Settles all, and returns the values and the codes of what was refused. */
async function outcomes<T>(calls: Promise<T>[]): Promise<{ made: T[]; codes: string[] }> {
  const settled = await Promise.allSettled(calls);
  return {
    made: settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : [])),
    codes: settled.flatMap((each) =>
      each.status === "rejected" ? [String(each.reason?.code ?? each.reason)] : [],
    ),
  };
}

export function racingLaws(open: () => World, reopen: () => Promise<Store | undefined>): void {
  const crowd = async () => {
    const here = open();
    const stores = [here.store, (await reopen()) ?? here.store, (await reopen()) ?? here.store];
    return { here, one: (n: number) => stores[n % stores.length] as Store };
  };

  it("a key used by many at once makes one operation, which all of them get", async () => {
    const { here, one } = await crowd();
    for (let round = 0; round < 3; round++) {
      const idempotency = { key: `k${round}`, inputDigest: "d" };
      const answers = await Promise.all(
        EVERYBODY.map((n) => one(n).submit({ ...here.build(), idempotency })),
      );
      expect(new Set(answers.map(({ operation }) => operation.id)).size).toBe(1);
      expect(answers.filter(({ replayed }) => !replayed)).toHaveLength(1);
    }
    expect((await here.store.operations({ owner: null, limit: 100 })).items).toHaveLength(3);
  });

  it("of many that want a name one gets it, and the others are told so", async () => {
    const { here, one } = await crowd();
    const bld = await here.ready();
    for (const name of ["a", "b", "c"]) {
      const { made, codes } = await outcomes(EVERYBODY.map((n) => one(n).submit(here.ship(bld, { name }))));
      expect(made).toHaveLength(1);
      expect(codes).toEqual(Array(MANY - 1).fill("conflict"));
    }
    expect((await here.store.instances({ owner: OWNER, limit: 100 })).items).toHaveLength(3);
  });

  it("the last places of a quota are given once, of builds and of operations per minute alike", async () => {
    const { here, one } = await crowd();
    const limits = [{ builds: 5 }, { operations_per_minute: 5 }];
    for (const [round, limit] of limits.entries()) {
      const owner = `o${round}`;
      const quota = { ...NO_QUOTA, ...limit };
      const calls = EVERYBODY.map((n) => one(n).submit({ ...here.build({ owner }), quota }));
      const { made, codes } = await outcomes(calls);
      expect(made).toHaveLength(5);
      expect(codes).toEqual(Array(MANY - 5).fill("limit"));
    }
  });

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
    await Promise.all(EVERYBODY.slice(0, 8).map(worker));
    const all = (await Promise.all(submitting)).map(({ operation }) => operation.id);
    // Who looked while another had it in his hands looks again when that one ends.
    while (await rest(here)) await worker(0);
    expect(done.sort()).toEqual(all.sort());
  });

  it("a silent worker's operations go to one claimer each, with sweeps between, and no attempt twice", async () => {
    const { here, one } = await crowd();
    for (let n = 0; n < 20; n++) await here.store.submit(here.build());
    for (let n = 0; n < 20; n++) await here.claim();
    here.clock.pass(HOUR);
    const calls = EVERYBODY.map(async (n) => {
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

  it("what an owner wishes of an instance last stands, whoever cancels what meanwhile", async () => {
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

  it("a delete and what it cancels leave one delete to do, however they meet", async () => {
    const { here, one } = await crowd();
    const bld = await here.ready();
    for (let round = 0; round < 5; round++) {
      const vm = await here.live(bld, `n${round}`);
      await here.store.submit(here.control(vm));
      const running = (await here.claim()) as Operation;
      const controls = EVERYBODY.slice(0, 4).map(() => here.control(vm));
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

  it("what somebody ships is not removed as unused at that moment", async () => {
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

  it("sweeps at once remove each operation once, and every key still answers what it made", async () => {
    const { here, one } = await crowd();
    const made: { key: string; id: string }[] = [];
    for (let n = 0; n < 40; n++) {
      const request = here.build();
      const keyed = n % 2 === 0 ? { idempotency: { key: `k${n}`, inputDigest: "d" } } : {};
      await here.store.submit({ ...request, ...keyed });
      await here.store.requestCancel(OWNER, request.operation.id);
      if (n % 2 === 0) made.push({ key: `k${n}`, id: request.operation.id });
    }
    here.clock.pass(2 * HOUR);
    const swept = await Promise.all(EVERYBODY.slice(0, 6).map((n) => one(n).sweep(SWEEP)));
    expect(swept.reduce((sum, { removedOperations }) => sum + removedOperations, 0)).toBe(40);
    for (const { key, id } of made) {
      const answer = await here.store.replay(OWNER, "pack_build", { key, inputDigest: "d" });
      expect(answer?.id).toBe(id);
    }
  });

  it("documents: of many at once, one writes a version, one gets an alias, one takes", async () => {
    const { here, one } = await crowd();
    const { documents } = here.store;
    for (const id of ["1", "2", "3"]) {
      const put = (n: number) => one(n).documents.put({ kind: "a", id, doc: n }, 0);
      const first = await outcomes(EVERYBODY.map(put));
      expect(first.made).toHaveLength(1);
      expect(first.codes).toEqual(Array(MANY - 1).fill("conflict"));
      await Promise.all(EVERYBODY.map((n) => one(n).documents.put({ kind: "a", id, doc: n })));
      expect(await documents.get("a", id)).toMatchObject({ version: MANY + 1 });
      const named = EVERYBODY.map((n) =>
        one(n).documents.put({ kind: "b", id: `${id} ${n}`, alias: id, doc: n }),
      );
      expect((await outcomes(named)).made).toHaveLength(1);
      const taken = await Promise.all(EVERYBODY.map((n) => one(n).documents.take("a", id)));
      expect(taken.filter((each) => each !== null)).toHaveLength(1);
    }
  });

  it("documents: what was put before a group was revoked is gone, and a rotation that was late changes nothing", async () => {
    const { here, one } = await crowd();
    const group = "family";
    for (let round = 0; round < 8; round++) {
      await here.store.documents.put({ kind: "token", id: `${round} 0`, group, doc: 0 });
      const rotations = EVERYBODY.map(async (n) => {
        const old = await one(n).documents.take("token", `${round} 0`);
        if (old) await one(n).documents.put({ kind: "token", id: `${round} 1`, group, doc: 1 });
        else await one(n).documents.removeAll({ group });
        return old !== null;
      });
      expect((await Promise.all(rotations)).filter(Boolean)).toHaveLength(1);
      await one(1).documents.removeAll({ group });
      expect((await here.store.documents.list({ kind: "token", group, limit: 10 })).items).toEqual([]);
    }
  });

  it("counters: what many spend at once is the limit, while sweeps remove what is over", async () => {
    const { here, one } = await crowd();
    const spend = (n: number) => one(n).counters.spend({ key: "k", limit: 7, windowMs: 10, amount: 2 });
    for (let round = 0; round < 6; round++) {
      here.clock.pass(10);
      const sweeping = one(round).sweep(SWEEP);
      const granted = (await Promise.all(EVERYBODY.map(spend))).reduce((sum, each) => sum + each.granted, 0);
      await sweeping;
      expect(granted).toBe(7);
    }
  });

  it("audit: of many that write the same line one does, and none of another's is lost", async () => {
    const { here, one } = await crowd();
    const line = (chain: string, seq: number, hash: string) => ({
      ...{ chain, seq, hash, at: here.clock.now(), owner: null, credential: null, action: "vm_list" },
      ...{ target: null, outcome: "ok" as const, address: null, trace_id: null },
    });
    const same = await outcomes(
      EVERYBODY.map((n) => one(n).audit.append([line("a", 1, `${n}`), line("a", 2, `${n}`)])),
    );
    expect(same.made).toHaveLength(1);
    expect(same.codes).toEqual(Array(MANY - 1).fill("conflict"));
    const [first, second] = await here.store.audit.read("a", 1, 10);
    expect(first?.hash).toBe(second?.hash);
    await Promise.all(EVERYBODY.map((n) => one(n).audit.append([line(`b${n}`, 1, "h")])));
    here.clock.pass(HOUR);
    // Whoever writes on while old lines are forgotten finds his chain in one piece.
    await Promise.all([
      ...EVERYBODY.map((n) => one(n).audit.append([line(`b${n}`, 2, "h")])),
      ...[0, 1, 2].map((n) => one(n).sweep({ ...SWEEP, auditKeptMs: HOUR })),
    ]);
    for (const { chain, first_seq, last_seq, seals } of await here.store.audit.chains()) {
      if (chain === "a") continue;
      expect(last_seq).toBe(2);
      if (first_seq === 2) expect(seals.map(({ seq }) => seq)).toContain(1);
    }
  });

  async function rest(here: World): Promise<boolean> {
    return (await here.store.operations({ owner: null, states: ["queued"], limit: 1 })).items.length > 0;
  }
}
