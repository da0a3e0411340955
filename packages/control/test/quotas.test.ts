import { NO_QUOTA, type Quota } from "@formation-mcp/contract";
import { createQuotas } from "@formation-mcp/control";
import { expect, test } from "vitest";
import { HELLO, live } from "./formfiles.ts";
import { ALICE, BOB, openWorld, ROOT } from "./world.ts";

const limited = (limits: Partial<Quota>, at = { now: () => Date.UTC(2026, 0, 1) }) =>
  openWorld(
    ({ store }) => ({
      quotas: createQuotas({ documents: store.documents, defaults: { ...NO_QUOTA, ...limits } }),
      clock: at,
    }),
    { clock: at },
  );

const box = (name: string, more = {}) => ({ image: "busybox", instance_name: name, ...more });

test("an owner's quota is the defaults with the fields that were set; null restores the defaults", async () => {
  await using world = await openWorld();
  const quotas = createQuotas({ documents: world.store.documents, defaults: { ...NO_QUOTA, vcpus: 4 } });
  expect(await quotas.of("alice")).toEqual({ ...NO_QUOTA, vcpus: 4 });
  expect(await quotas.set("alice", { instances: 2 })).toEqual({ ...NO_QUOTA, vcpus: 4, instances: 2 });
  expect(await quotas.set("alice", { vcpus: null })).toEqual({ ...NO_QUOTA, instances: 2 });
  expect(await quotas.of("alice")).toEqual({ ...NO_QUOTA, instances: 2 });
  expect(await quotas.of("bob")).toEqual({ ...NO_QUOTA, vcpus: 4 });
  expect(await quotas.set("alice", null)).toEqual({ ...NO_QUOTA, vcpus: 4 });
});

test("a quota change of another server shows within five seconds, and concurrent changes are both kept", async () => {
  await using world = await openWorld();
  let now = Date.now();
  const make = () =>
    createQuotas({ documents: world.store.documents, defaults: NO_QUOTA, clock: { now: () => now } });
  const [one, other] = [make(), make()];
  expect(await one.of("alice")).toEqual(NO_QUOTA);
  await Promise.all([other.set("alice", { vcpus: 1 }), make().set("alice", { builds: 2 })]);
  expect(await one.of("alice")).toEqual(NO_QUOTA);
  now += 5000;
  expect(await one.of("alice")).toEqual({ ...NO_QUOTA, vcpus: 1, builds: 2 });
});

test("an unknown field or wrong value of a quota is refused", async () => {
  await using world = await openWorld();
  const quotas = createQuotas({ documents: world.store.documents, defaults: NO_QUOTA });
  for (const wrong of [{ vcpus: -1 }, { vcpus: 1.5 }, { vcpus: "9" }, { cpus: 1 }, { vcpus: Number.NaN }])
    await expect(quotas.set("alice", wrong as Partial<Quota>)).rejects.toMatchObject({ code: "invalid" });
  expect(await quotas.of("alice")).toEqual(NO_QUOTA);
});

test("each limit of a quota holds for every tool, and a refused call writes nothing", async () => {
  await using world = await limited({ vcpus: 3, memory_mb: 2048, disk_gb: 12, instances: 2, builds: 1 });
  await world.call("vm_create", box("one", { vm_config: { vcpus: 2 } }));
  for (const vm_config of [{ vcpus: 2 }, { memory_mb: 4096 }, { disk_gb: 100 }]) {
    const error = await world.refused("vm_create", box("two", { vm_config }));
    expect([error.code, Boolean(error.details.remedy)]).toEqual(["limit", true]);
  }
  await world.call("vm_create", box("two"));
  expect((await world.refused("vm_create", box("three"))).code).toBe("limit");
  await world.call("pack_build", { formfile: HELLO });
  expect((await world.refused("pack_build", { formfile: HELLO })).code).toBe("limit");
  expect((await world.call("vm_list"))["instances"]).toHaveLength(2);
  expect((await world.call("build_list"))["builds"]).toHaveLength(3);
  await world.call("vm_create", box("one"), BOB);
});

test("concurrent calls do not both get the last place of a quota", async () => {
  await using world = await limited({ instances: 3 });
  const made = await Promise.allSettled(
    Array.from({ length: 8 }, (_, i) => world.call("vm_create", box(`box-${i}`))),
  );
  expect(made.filter(({ status }) => status === "fulfilled")).toHaveLength(3);
});

test("operations per minute are limited, the remedy says how long to wait, and a replay does not count", async () => {
  let now = Date.UTC(2026, 0, 1) + 45_000;
  await using world = await limited({ operations_per_minute: 3 }, { now: () => now });
  await live(world);
  const input = { instance: "web", action: "stop", idempotency_key: "k" };
  const first = await world.call("vm_control", input);
  await world.worker.step();
  expect((await world.call("vm_control", input))["operation_id"]).toBe(first["operation_id"]);
  const error = await world.refused("vm_control", { instance: "web", action: "start" });
  expect(error.code).toBe("limit");
  expect(error.details.remedy).toMatch(/\b15 s/);
  await world.call("pack_build", { formfile: HELLO, dry_run: true });
  await world.call("vm_create", box("web"), BOB);
  now += 15_000;
  await world.call("vm_control", { instance: "web", action: "start" });
});

test("refused builds store no more contexts per minute than operations are allowed", async () => {
  await using world = await limited({ operations_per_minute: 3, builds: 1 });
  let stored = 0;
  const put = world.artifacts.put.bind(world.artifacts);
  world.artifacts.put = (...all) => {
    stored += 1;
    return put(...all);
  };
  const build = (text: string) =>
    world.call("pack_build", { formfile: { ...HELLO, include: ["."] }, context_files: { a: text } });
  await build("first");
  for (let i = 0; i < 6; i += 1) await expect(build(`${i}`)).rejects.toMatchObject({ code: "limit" });
  expect(stored).toBe(3);
});

test("an admin's changes to another owner's VM are within that owner's quota, but do not count as its operations", async () => {
  await using world = await limited({ operations_per_minute: 2, vcpus: 2 });
  const { instance_id, build_id } = await live(world);
  const grown = { build_id, instance_name: "web", replace: true, vm_config: { vcpus: 4 } };
  expect((await world.refused("pack_ship", grown, ROOT)).code).toBe("limit");
  await world.call("vm_control", { instance: instance_id, action: "stop" }, ROOT);
  expect((await world.refused("vm_delete", { instance: "web", confirm: "web" }, ALICE)).code).toBe("limit");
});
