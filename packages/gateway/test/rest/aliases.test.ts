import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVERYTHING, type Json, openWorld, type Someone, type World } from "./world.ts";

let world: World;
let alice: Someone;
/** What control was asked under the old names since the last look. */
let asked: { tool: string; input: Json }[] = [];

beforeAll(async () => {
  world = await openWorld();
  alice = await world.someone(EVERYTHING);
  const { call } = world.deps.control;
  world.deps.control.call = async (principal, tool, input, hooks) => {
    asked.push({ tool, input: input as Json });
    if (tool.startsWith("vm_") || tool.startsWith("pack_"))
      return { instances: [], instance_name: "x", state: "queued" };
    return call(principal, tool, input, hooks);
  };
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

async function alias(name: string, parameters: Json) {
  asked = [];
  const said = await world.ask("POST", `/api/tools/${name}`, { token: alice.token, json: { parameters } });
  return { ...said, asked: [...asked] };
}

const name = fc.stringMatching(/^[a-z][a-z0-9-]{0,20}[a-z0-9]$/);
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const nullish = <T>(value: fc.Arbitrary<T>) => fc.oneof(value, fc.constantFrom(null, undefined));
const text = fc.string({ minLength: 1, maxLength: 30 });

/** The values of a parameter object, deep down, that are neither null nor false. */
function leaves(value: unknown): unknown[] {
  if (value === null || value === undefined) return [];
  if (typeof value === "object") return Object.values(value).flatMap(leaves);
  return [value];
}

describe("an old name", () => {
  it("of pack_build passes every parameter on, or warns of it", async () => {
    const parameters = fc.record({
      formfile_content: fc.string({ minLength: 1 }),
      context_files: nullish(fc.dictionary(name, text, { noNullPrototype: true })),
      build_options: nullish(
        fc.record({ cache: nullish(fc.boolean()), timeout_seconds: nullish(fc.nat(3000)) }),
      ),
      wait_seconds: maybe(fc.integer({ min: 0, max: 45 })),
      idempotency_key: nullish(name),
    });
    await fc.assert(
      fc.asyncProperty(parameters, async (given) => {
        const said = await alias("form_pack_build", given);
        expect(said.status).toBe(200);
        const [{ tool, input } = { tool: "", input: {} }] = said.asked;
        expect(tool).toBe("pack_build");
        expect(input["formfile"]).toBe(given.formfile_content);
        expect(input["context_files"] ?? null).toEqual(given.context_files ?? null);
        expect(input["no_cache"] ?? false).toBe(given.build_options?.cache === false);
        expect(input["wait_seconds"]).toBe(given.wait_seconds ?? 0);
        expect(input["idempotency_key"] ?? null).toBe(given.idempotency_key ?? null);
        const warned = JSON.stringify(said.data["warnings"] ?? []).includes("timeout_seconds");
        expect(warned).toBe(given.build_options?.timeout_seconds != null);
        expect(Object.values(input)).not.toContain(null);
      }),
      { numRuns: 80 },
    );
  });

  it("of pack_ship passes every parameter on, refuses it, or warns of it", async () => {
    const vm_config = fc.record({
      vcpus: nullish(fc.integer({ min: 1, max: 64 })),
      memory_mb: nullish(fc.integer({ min: 64, max: 4096 })),
      network: nullish(
        fc.record({
          join_formnet: nullish(fc.boolean()),
          external_networks: nullish(fc.array(text, { maxLength: 3 })),
        }),
      ),
      metadata: nullish(
        fc.dictionary(name, fc.oneof(text, fc.integer(), fc.boolean()), { noNullPrototype: true }),
      ),
    });
    const parameters = fc.record({
      build_id: name,
      instance_name: nullish(name),
      vm_config: nullish(vm_config),
      target_node: nullish(fc.constantFrom("", "node-123")),
      deployment_options: nullish(
        fc.record({
          auto_restart: nullish(fc.boolean()),
          replica_count: nullish(fc.integer({ min: 0, max: 3 })),
          timeout_seconds: nullish(fc.nat(3000)),
        }),
      ),
    });
    await fc.assert(
      fc.asyncProperty(parameters, async (given) => {
        const said = await alias("form_pack_ship", given);
        const options: Partial<NonNullable<typeof given.deployment_options>> = given.deployment_options ?? {};
        const replicas = options.replica_count ?? 1;
        const refused = replicas !== 1;
        expect(said.status).toBe(refused ? 400 : 200);
        if (refused) {
          expect(said.asked).toEqual([]);
          const field = "deployment_options.replica_count";
          expect(said.body).toMatchObject({ error: { field, remedy: expect.any(String) } });
          return;
        }
        const [{ tool, input } = { tool: "", input: {} }] = said.asked;
        expect(tool).toBe("pack_ship");
        expect(input).toMatchObject({ build_id: given.build_id, wait_seconds: 0 });
        expect(input["instance_name"] ?? null).toBe(given.instance_name ?? null);
        expect(input["target_node"] ?? null).toBe(given.target_node || null);
        expect(leaves(input["vm_config"]).map(String)).toEqual(leaves(given.vm_config).map(String));
        const warned = JSON.stringify(said.data["warnings"] ?? []);
        expect(warned.includes("auto_restart")).toBe(options.auto_restart === true);
        expect(warned.includes("timeout_seconds")).toBe(options.timeout_seconds != null);
        expect(said.body["message"] === null).toBe(warned === "[]");
      }),
      { numRuns: 120 },
    );
  });

  it("of vm_create has the ancestor's defaults and its names of images", async () => {
    const bare = await alias("vm.create", { name: "web" });
    expect(bare.asked).toEqual([
      {
        tool: "vm_create",
        input: {
          instance_name: "web",
          image: "ubuntu:22.04",
          vm_config: { vcpus: 1, memory_mb: 1024, disk_gb: 10 },
          wait_seconds: 0,
        },
      },
    ]);
    expect(JSON.stringify(bare.data["warnings"])).toContain("ubuntu:22.04");
    const full = await alias("vm.create", {
      name: "db",
      vcpus: 2,
      memory_mb: 2048,
      disk_gb: 20,
      image: "debian:12",
      join_formnet: false,
      metadata: { tier: 1, live: true },
    });
    expect(full.asked[0]?.input).toEqual({
      instance_name: "db",
      image: "debian:12",
      vm_config: {
        vcpus: 2,
        memory_mb: 2048,
        disk_gb: 20,
        metadata: { tier: "1", live: "true" },
        network: { join_formnet: false },
      },
      wait_seconds: 0,
    });
    expect(full.body["message"]).toBeNull();
  });

  it("of a VM tool takes any of the names for the id, and one VM at a time", async () => {
    for (const field of ["id", "name", "vm_id", "instance_id"]) {
      for (const [tool, more] of [
        ["vm.status", {}],
        ["vm.control", { operation: "stop" }],
        ["vm.control", { action: "stop" }],
        ["vm.delete", { force: true }],
      ] as const) {
        const said = await alias(tool, { [field]: "web", ...more });
        expect(said.asked[0]?.input).toMatchObject({ instance: "web" });
      }
    }
    expect((await alias("vm.status", {})).status).toBe(400);
    expect((await alias("vm.status", { id: "a", name: "b" })).status).toBe(400);
    expect((await alias("vm.status", { id: "a", name: "a" })).status).toBe(200);
    expect((await alias("vm.control", { id: "a" })).status).toBe(400);
    expect((await alias("vm.control", { id: "a", operation: "stop", action: "start" })).status).toBe(400);
  });

  it("refuses unknown parameters, and says which it takes", async () => {
    const unknown = fc.tuple(
      fc.constantFrom(
        "form_pack_build",
        "form_pack_ship",
        "vm.status",
        "vm.control",
        "vm.create",
        "vm.list",
        "vm.delete",
      ),
      fc.stringMatching(/^zz[a-z_]{1,20}$/),
    );
    await fc.assert(
      fc.asyncProperty(unknown, async ([tool, field]) => {
        const said = await alias(tool, { [field]: 1 });
        expect(said.status).toBe(400);
        expect(said.body).toMatchObject({ error: { remedy: expect.stringContaining(tool) } });
        expect(said.asked).toEqual([]);
      }),
      { numRuns: 40 },
    );
  });
});
