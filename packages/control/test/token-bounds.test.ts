import type { Principal } from "@formation-mcp/auth";
import { newId } from "@formation-mcp/contract";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { HELLO, live, ready } from "./formfiles.ts";
import { ALICE, type Json, openWorld, ROOT, type World } from "./world.ts";

const within = (bounds: Principal["bounds"]): Principal => ({ ...ALICE, ...(bounds ? { bounds } : {}) });
const RED = within({ metadata: { team: "red" } });

/** Reads all pages of a list. */
async function listed(world: World, tool: string, input: Json, principal: Principal): Promise<Json[]> {
  const all: Json[] = [];
  for (let cursor: unknown; ; ) {
    const said = await world.call(tool, cursor ? { ...input, cursor } : input, principal);
    const items = Object.values(said).find((value) => Array.isArray(value)) as Json[];
    all.push(...items);
    if (said["cursor"] === null) return all;
    expect(items, "a page before the last is full").toHaveLength(Number(input["limit"]));
    cursor = said["cursor"];
  }
}

test("lists show exactly the records that the bounds allow, in order, on full pages of any size", async () => {
  await using world = await openWorld();
  const made: { name: string; team: string; vm: unknown; build: unknown; op: unknown }[] = [];
  for (let i = 0; i < 24; i += 1) {
    const [name, team] = [`vm-${i % 12}`, ["red", "blue"][Math.floor(i / 2) % 2] ?? ""];
    const ship = await world.call(
      "vm_create",
      { image: "busybox", instance_name: name },
      within({ metadata: { team } }),
    );
    await world.worker.step();
    made.unshift({ name, team, vm: ship["instance_id"], build: ship["build_id"], op: ship["operation_id"] });
    if (i < 12) {
      await world.call("vm_delete", { instance: name, confirm: name });
      await world.worker.step();
    }
  }
  const names = fc.option(fc.subarray(Array.from({ length: 14 }, (_, i) => `vm-${i}`)), { nil: undefined });
  const team = fc.constantFrom(undefined, "red", "blue", "green");
  await fc.assert(
    fc.asyncProperty(names, team, fc.integer({ min: 1, max: 7 }), async (instances, pair, limit) => {
      const bounds = { ...(instances ? { instances } : {}), ...(pair ? { metadata: { team: pair } } : {}) };
      const left = made.filter(
        (one) => (instances?.includes(one.name) ?? true) && (pair === undefined || one.team === pair),
      );
      const caller = within(bounds);
      const living = new Set(made.slice(0, 12).map(({ vm }) => vm));
      const of = async (tool: string, key: string, input: Json = {}) =>
        (await listed(world, tool, { ...input, limit }, caller)).map((item) => item[key]);
      expect(await of("vm_list", "instance_id")).toEqual(
        left.filter(({ vm }) => living.has(vm)).map(({ vm }) => vm),
      );
      expect(await of("vm_list", "instance_id", { state: "deleted" })).toEqual(
        left.filter(({ vm }) => !living.has(vm)).map(({ vm }) => vm),
      );
      expect(await of("vm_list", "instance_id", { metadata: { team: "red" } })).toEqual(
        left.filter(({ vm, team: own }) => living.has(vm) && own === "red").map(({ vm }) => vm),
      );
      expect(await of("build_list", "build_id")).toEqual(left.map(({ build }) => build));
      const operations = await of("operation_list", "operation_id");
      expect(made.map(({ op }) => op).filter((op) => operations.includes(op))).toEqual(
        left.map(({ op }) => op),
      );
    }),
    { numRuns: 30 },
  );
});

test("a list reads a limited number of records, and the cursor continues after them", async () => {
  await using world = await openWorld();
  const { build_id, operation_id } = await world.call("pack_build", { formfile: HELLO });
  const {
    version: _,
    created_at: __,
    updated_at: ___,
    ...build
  } = await world.store.build("alice", build_id as `bld_${string}`);
  const operation = await world.store.operation("alice", operation_id as `op_${string}`);
  for (let i = 0; i < 2000; i += 1) {
    const [id, made] = [newId("op"), newId("bld")];
    await world.store.submit({
      build: { ...build, id: made, operation_id: id },
      operation: {
        ...operation,
        id,
        target_id: made,
        input: { kind: "build", build_id: made, no_cache: false },
      },
    });
  }
  const first = await world.call("build_list", {}, RED);
  expect([first["builds"], first["cursor"]]).toEqual([[], expect.any(String)]);
  expect(await world.call("build_list", { cursor: first["cursor"] }, RED)).toEqual({
    builds: [],
    cursor: null,
  });
});

describe("a bounded token makes only what is within its bounds", () => {
  test("the bounds' metadata is added; the caller can neither ask for other values nor drop it with a replacement", async () => {
    await using world = await openWorld();
    const build = await world.call("pack_build", { formfile: { ...HELLO, metadata: { tier: "test" } } }, RED);
    await world.worker.step();
    const { build_id } = build;
    await world.call("pack_ship", { build_id }, RED);
    await world.worker.step();
    const other = { build_id, replace: true, vm_config: { metadata: { team: "blue" } } };
    const error = await world.refused("pack_ship", other, RED);
    expect([error.code, error.details.field]).toEqual(["forbidden", "vm_config.metadata"]);
    await world.call("pack_ship", { build_id, replace: true, vm_config: { metadata: { tier: "x" } } }, RED);
    await world.worker.step();
    expect(await world.call("vm_status", { instance: "hello" }, RED)).toMatchObject({
      metadata: { tier: "x", team: "red" },
    });
    const built = { formfile: { ...HELLO, metadata: { team: "blue" } } };
    expect((await world.refused("pack_build", built, RED)).details.field).toBe("formfile.metadata");
  });

  test("a name that the account uses outside the bounds is not free, and the error does not say what runs there", async () => {
    await using world = await openWorld();
    await live(world, "web");
    const build = await world.call("pack_build", { formfile: HELLO }, RED);
    await world.worker.step();
    for (const replace of [false, true]) {
      const input = { build_id: build["build_id"], instance_name: "web", replace };
      const error = await world.refused("pack_ship", input, RED);
      expect(error.code).toBe("conflict");
      expect(JSON.stringify(error.toRecord())).not.toMatch(/running|replace|vm_\w{36}/);
    }
    expect((await world.refused("vm_status", { instance: "web" }, RED)).code).toBe("not_found");
  });

  test("the token can't ship a build outside its bounds, nor use a name that they do not list", async () => {
    await using world = await openWorld();
    const build_id = await ready(world);
    expect((await world.refused("pack_ship", { build_id }, RED)).code).toBe("not_found");
    const named = within({ instances: ["hello"] });
    const error = await world.refused("pack_ship", { build_id, instance_name: "web" }, named);
    expect([error.code, error.details.field, error.details.remedy]).toEqual([
      "forbidden",
      "instance_name",
      "Use one of: hello.",
    ]);
    expect(await world.call("pack_ship", { build_id }, named)).toMatchObject({ instance_name: "hello" });
  });
});

test("a call within bounds does not replay an idempotency key that was used without bounds", async () => {
  await using world = await openWorld();
  const input = { image: "busybox", instance_name: "box", idempotency_key: "k" };
  const made = await world.call("vm_create", input);
  const error = await world.refused("vm_create", input, RED);
  expect(error.code).toBe("conflict");
  expect(JSON.stringify(error.toRecord())).not.toContain(String(made["operation_id"]));
  const mine = { ...input, idempotency_key: "l", instance_name: "red-box" };
  const first = await world.call("vm_create", mine, RED);
  expect((await world.call("vm_create", mine, RED))["operation_id"]).toBe(first["operation_id"]);
});

test("an admin token with bounds sees only its own owner's records", async () => {
  await using world = await openWorld();
  await live(world, "web", { vm_config: { metadata: { team: "red" } } });
  const fenced: Principal = { ...ROOT, bounds: { metadata: { team: "red" } } };
  expect(await world.call("vm_list", {}, fenced)).toMatchObject({ instances: [] });
  expect(await world.call("vm_list", {}, ROOT)).toMatchObject({ instances: [{ owner: "alice" }] });
});
