// Quotas: what counts as used, and what is refused, also when submissions come at the same moment.

import { NO_QUOTA, type Operation } from "@formation-mcp/contract";
import type { Store, Submission } from "@formation-mcp/operations";
import fc from "fast-check";
import { expect, it } from "vitest";
import { MINUTE, NEEDS, OWNER, type Reopen, refused, type World } from "./world.ts";

const IDLE = { vcpus: 0, memory_mb: 0, disk_gb: 0, instances: 0, builds: 0 };
const ONE = { ...NEEDS, instances: 1, builds: 0 };

type Resources = typeof NEEDS;

/** What counts as used, and what a submission beyond a limit answers. */
export function describeUsage(open: () => World): void {
  it("an owner's usage is their instances that are not deleted and their builds that are not done", async () => {
    const { store, ready, live, build, ship, remove, claim, lease } = open();
    expect(await store.usage(OWNER)).toEqual(IDLE);
    const bld = await ready();
    const vm = await live(bld);
    await store.submit(build());
    await store.submit(build({ owner: "other" }));
    const waiting = ship(bld, { name: "waiting" });
    await store.submit(waiting);
    const two = { vcpus: 2, memory_mb: 1024, disk_gb: 10, instances: 2, builds: 1 };
    expect(await store.usage(OWNER)).toEqual(two);
    expect(await store.usage("other")).toEqual({ ...IDLE, builds: 1 });
    await store.requestCancel(OWNER, waiting.operation.id);
    expect(await store.usage(OWNER)).toEqual({ ...ONE, builds: 1 });
    const { version } = await store.instance(OWNER, vm);
    await store.submit(remove(vm, version));
    expect(await store.usage(OWNER)).toMatchObject({ instances: 1 });
    const deleting = (await claim({ subjects: ["vm.control.here"] })) as Operation;
    const gone = { instances: [{ id: vm, patch: { state: "deleted" as const } }] };
    await store.settle(lease(deleting), { state: "completed" }, gone);
    expect(await store.usage(OWNER)).toEqual({ ...IDLE, builds: 1 });
  });

  const limits = [
    ["vcpus", 1, "vm_config.vcpus"],
    ["memory_mb", 512 + 511, "vm_config.memory_mb"],
    ["disk_gb", 9, "vm_config.disk_gb"],
    ["instances", 1, undefined],
  ] as const;
  for (const [name, limit, field] of limits) {
    it(`a ship beyond the quota of ${name} is refused, says what is there, and writes nothing`, async () => {
      const { store, ready, live, ship } = open();
      const bld = await ready();
      await live(bld);
      const revision = store.revision();
      const request = ship(bld, { name: "second" });
      const refusal = await store
        .submit({ ...request, quota: { ...NO_QUOTA, [name]: limit } })
        .catch((e) => e);
      expect(refusal).toMatchObject({ name: "FormationError", code: "limit" });
      expect(refusal.details.field).toBe(field);
      expect(refusal.details.remedy).toMatch(/Delete.*operator/);
      for (const number of [limit, ONE[name]]) expect(refusal.message).toContain(String(number));
      expect(store.revision()).toBe(revision);
      await refused(store.operation(OWNER, request.operation.id), "not_found");
      expect(await store.instanceByName(OWNER, "second")).toBeNull();
      expect(await store.usage(OWNER)).toEqual(ONE);
      await store.submit({ ...request, quota: { ...NO_QUOTA, [name]: ONE[name] * 2 } });
    });
  }
}

/** How builds and replacements count. */
export function describeReplacements(open: () => World): void {
  it("the limit of builds counts queued and running ones", async () => {
    const { store, build, claim, lease } = open();
    const quota = { ...NO_QUOTA, builds: 2 };
    await store.submit({ ...build(), quota });
    await store.submit({ ...build(), quota });
    const running = (await claim()) as Operation;
    const third = build();
    await refused(store.submit({ ...third, quota }), "limit");
    await refused(store.build(OWNER, third.build.id), "not_found");
    await store.submit({ ...build({ owner: "other" }), quota });
    const error = { code: "invalid" as const, message: "No." };
    await store.settle(lease(running), { state: "failed", error });
    await store.submit({ ...third, quota });
  });

  it("a replacement counts in place of what it replaces, from when it is asked for", async () => {
    const { store, ready, live, ship, claim, lease } = open();
    const bld = await ready();
    const [one, two] = [await live(bld, "one"), await live(bld, "two")];
    const quota = { ...NO_QUOTA, memory_mb: 2048, instances: 2 };
    const replace = (vm: typeof one, memory_mb: number) => {
      const request = sized(ship(bld, { instance_id: vm, name: vm === one ? "one" : "two" }), {
        ...NEEDS,
        memory_mb,
      });
      return { ...request, quota };
    };
    await refused(store.submit(replace(one, 1537)), "limit");
    const larger = replace(one, 1536);
    await store.submit(larger);
    expect(await store.usage(OWNER)).toMatchObject({ memory_mb: 2048, instances: 2 });
    await refused(store.submit(replace(two, 513)), "limit");
    await store.submit(replace(one, 1536));
    await store.submit(replace(one, 64));
    expect(await store.usage(OWNER)).toMatchObject({ memory_mb: 2048 });
    // Only the first is made; the others are cancelled.
    for (const { id } of (await store.operations({ owner: OWNER, states: ["queued"], limit: 9 })).items) {
      if (id !== larger.operation.id) await store.requestCancel(OWNER, id);
    }
    const running = (await claim()) as Operation;
    const { id, config } = larger.deployment;
    await store.apply(lease(running), { deployments: [{ id, patch: { state: "deploying" } }] });
    expect(await store.usage(OWNER)).toMatchObject({ memory_mb: 2048 });
    await store.settle(
      lease(running),
      { state: "completed" },
      {
        deployments: [{ id, patch: { state: "live" } }],
        instances: [{ id: one, patch: { config, deployment_id: id } }],
      },
    );
    expect(await store.usage(OWNER)).toMatchObject({ memory_mb: 2048 });
    // A replacement that ends without being made is not counted any more.
    const smaller = replace(two, 512);
    await store.submit(smaller);
    await store.requestCancel(OWNER, smaller.operation.id);
    expect(await store.usage(OWNER)).toMatchObject({ memory_mb: 2048, vcpus: 2 });
  });

  it("a deleted instance counts nothing, though a replacement of it is still queued", async () => {
    const { store, ready, live, ship } = open();
    const bld = await ready();
    const vm = await live(bld);
    await store.submit(sized(ship(bld, { instance_id: vm }), { vcpus: 4, memory_mb: 4096, disk_gb: 40 }));
    expect(await store.usage(OWNER)).toMatchObject({ vcpus: 4, memory_mb: 4096, disk_gb: 40 });
    const { version } = await store.instance(OWNER, vm);
    await store.observe(vm, version, { state: "deleted" });
    expect(await store.usage(OWNER)).toEqual(IDLE);
  });
}

/** What a quota never refuses, and the limit of operations a minute. */
export function describeExceptions(open: () => World): void {
  it("an owner beyond a lowered limit may still shrink, stop and delete", async () => {
    const { store, ready, live, ship, control, remove } = open();
    const bld = await ready();
    const vm = await live(bld);
    const quota = { ...NO_QUOTA, vcpus: 0, memory_mb: 100, disk_gb: 0, instances: 0, builds: 0 };
    const smaller = { vcpus: 1, memory_mb: 256, disk_gb: 5 };
    await store.submit({ ...sized(ship(bld, { instance_id: vm }), smaller), quota });
    await store.submit({ ...control(vm), quota });
    const { version } = await store.instance(OWNER, vm);
    await store.submit({ ...remove(vm, version), quota });
  });

  it("an idempotent repeat is answered whatever the quota is now", async () => {
    const { store, build } = open();
    const idempotency = { key: "k", inputDigest: "d" };
    const first = await store.submit({ ...build(), idempotency });
    const quota = { ...NO_QUOTA, builds: 0, operations_per_minute: 0 };
    const again = await store.submit({ ...build(), idempotency, quota });
    expect(again).toEqual({ operation: first.operation, replayed: true });
  });

  it("operations a minute are limited, and refused ones do not count", async () => {
    const { store, build, clock } = open();
    clock.pass(MINUTE - (clock.now() % MINUTE));
    const quota = { ...NO_QUOTA, builds: 2, operations_per_minute: 3 };
    const submit = (over = {}) => store.submit({ ...build(), quota: { ...quota, ...over } });
    await submit();
    await submit();
    for (let i = 0; i < 3; i++) await refused(submit(), "limit");
    await submit({ builds: null });
    const refusal = await submit({ builds: null }).catch((e) => e);
    expect(refusal).toMatchObject({ code: "limit", message: expect.stringMatching(/3 operations a minute/) });
    expect(refusal.details.remedy).toMatch(/60 seconds/);
    clock.pass(MINUTE);
    await submit({ builds: null });
  });
}

/** Submissions at the same moment. */
export function describeConcurrentQuotas(open: () => World, reopen: Reopen): void {
  it("submissions at the same moment never exceed the limits, and reach them", async () => {
    const { store, ship, build } = open();
    const all = [store, (await reopen()) ?? store];
    let round = 0;
    const wishes = fc.array(
      fc.record({ vcpus: fc.integer({ min: 1, max: 4 }), memory_mb: fc.integer({ min: 64, max: 900 }) }),
      { minLength: 1, maxLength: 12 },
    );
    await fc.assert(
      fc.asyncProperty(wishes, async (list) => {
        const owner = `owner ${round++}`;
        const quota = { ...NO_QUOTA, vcpus: 8, memory_mb: 2000, disk_gb: 30, instances: 5, builds: 2 };
        const own = await ownBuild(store, build, owner);
        const calls = list.map((wish, i) => {
          const request = sized(ship(own, { owner, name: `n${i}` }), { ...wish, disk_gb: 5 });
          return all[i % 2]?.submit({ ...request, quota }).then(
            () => wish,
            (error) => {
              expect(error).toMatchObject({ code: "limit" });
              return null;
            },
          );
        });
        const made = (await Promise.all(calls)).filter((wish) => wish !== null && wish !== undefined);
        const used = await store.usage(owner);
        expect(used).toMatchObject({ instances: made.length, vcpus: sum(made, "vcpus") });
        expect(used.memory_mb).toBe(sum(made, "memory_mb"));
        for (const name of ["vcpus", "memory_mb", "disk_gb", "instances"] as const) {
          expect(used[name]).toBeLessThanOrEqual(quota[name]);
        }
        const fits = (wish: (typeof list)[number]) =>
          used.vcpus + wish.vcpus <= 8 && used.memory_mb + wish.memory_mb <= 2000 && used.instances < 5;
        if (made.length < list.length) expect(list.filter((w) => !made.includes(w)).every(fits)).toBe(false);
      }),
      { numRuns: 25 },
    );
  });
}

/** A build of that owner, to be shipped; whether it is made is nothing to the store. */
async function ownBuild(store: Store, build: World["build"], owner: string) {
  const request = build({ owner });
  await store.submit(request);
  await store.requestCancel(owner, request.operation.id);
  return request.build.id;
}

function sum<K extends string>(list: Record<K, number>[], name: K): number {
  return list.reduce((total, each) => total + each[name], 0);
}

/** The same request for a machine of another size. */
function sized<S extends Submission & { deployment: NonNullable<Submission["deployment"]> }>(
  request: S,
  resources: Resources,
): S {
  const config = { ...request.deployment.config, resources };
  return {
    ...request,
    deployment: { ...request.deployment, config },
    ...(request.instance ? { instance: { ...request.instance, config } } : {}),
  };
}
