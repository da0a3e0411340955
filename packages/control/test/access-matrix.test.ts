// Every tool × every scope × every owner × every kind of token bounds, generated from the table of tools. A
// tool without an entry in CASES does not compile; a tool that answers a call it must refuse fails.

import { type Principal, SCOPES } from "@formation-mcp/auth";
import { type FormationError, newId } from "@formation-mcp/contract";
import { createControl } from "@formation-mcp/control";
import { TOOLS, type ToolName } from "@formation-mcp/tools";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { HELLO } from "./formfiles.ts";
import { ALICE, BOB, type Json, openWorld, ROOT, type World } from "./world.ts";

/** The records of Alice: a build and an instance named `web`, both with the metadata team=red. */
interface Ids {
  name: string;
  build: string;
  dep: string;
  vm: string;
  op: string;
}

interface Case {
  /** The inputs to call with: one for each way to name these records. */
  inputs(ids: Ids, name: string): Json[];
  /**
   * `names`: the tool names a record, which may not exist for the caller. `lists`: it lists what the caller
   * sees. `makes`: it makes a new record of the caller. `admins`: only admins without bounds may call it.
   */
  kind: "names" | "lists" | "makes" | "admins";
}

const instance = ({ name, vm }: Ids, rest: Json = {}) => [vm, name].map((it) => ({ instance: it, ...rest }));

const CASES: { [N in ToolName]: Case } = {
  pack_build: { kind: "makes", inputs: (_, name) => [{ formfile: { ...HELLO, name } }] },
  pack_ship: {
    kind: "names",
    inputs: ({ build }) => [{ build_id: build, instance_name: "web", replace: true }],
  },
  build_list: { kind: "lists", inputs: () => [{}] },
  build_get: { kind: "names", inputs: ({ build }) => [{ build_id: build }] },
  vm_create: { kind: "makes", inputs: (_, name) => [{ image: "busybox", instance_name: name }] },
  vm_list: { kind: "lists", inputs: () => [{}] },
  vm_status: { kind: "names", inputs: (ids) => instance(ids) },
  vm_control: { kind: "names", inputs: (ids) => instance(ids, { action: "stop" }) },
  vm_delete: { kind: "names", inputs: (ids) => instance(ids, { confirm: "web" }) },
  vm_logs: { kind: "names", inputs: (ids) => instance(ids) },
  operation_get: {
    kind: "names",
    inputs: ({ op, build, vm, dep }) => [op, build, vm, dep].map((id) => ({ id })),
  },
  operation_list: { kind: "lists", inputs: () => [{}] },
  operation_cancel: { kind: "names", inputs: ({ op }) => [{ operation_id: op }] },
  node_list: { kind: "admins", inputs: () => [{}] },
};

const METADATA = { team: "red" };
/** The last name that the bounds allow is free; `fits` says whether they allow the existing records. */
const BOUNDS: Record<string, { bounds?: Principal["bounds"]; fits: boolean }> = {
  "no bounds": { fits: true },
  "its name": { bounds: { instances: ["web", "free-1"] }, fits: true },
  "its metadata": { bounds: { metadata: METADATA }, fits: true },
  "its name and metadata": { bounds: { instances: ["web", "free-2"], metadata: METADATA }, fits: true },
  "another name": { bounds: { instances: ["free-3"] }, fits: false },
  "no name at all": { bounds: { instances: [] }, fits: false },
  "another value": { bounds: { metadata: { team: "blue" } }, fits: false },
  "another key": { bounds: { metadata: { crew: "red" } }, fits: false },
  "a key of every object": { bounds: { metadata: { constructor: "red" } }, fits: false },
  "its name and another value": {
    bounds: { instances: ["web", "free-4"], metadata: { team: "blue" } },
    fits: false,
  },
  "another name and its metadata": { bounds: { instances: ["free-5"], metadata: METADATA }, fits: false },
};

const WHO: Record<string, { principal: Principal; sees: boolean }> = {
  "the owner": { principal: ALICE, sees: true },
  "another owner": { principal: BOB, sees: false },
  "an admin": { principal: ROOT, sees: true },
};

async function withRed(world: World): Promise<Ids> {
  const formfile = { ...HELLO, name: "web", metadata: METADATA };
  const { build_id } = await world.call("pack_build", { formfile });
  await world.worker.step();
  const ship = await world.call("pack_ship", { build_id });
  await world.worker.step();
  return {
    name: "web",
    build: String(build_id),
    dep: String(ship["deployment_id"]),
    vm: String(ship["instance_id"]),
    op: String(ship["operation_id"]),
  };
}

/** The code and texts of an error, without the values that the caller sent. */
const plain = (error: FormationError) =>
  JSON.stringify(error.toRecord()).replace(/(op|bld|dep|vm)_\w{36}|\\"(web|gone)\\"/g, "IT");
const nobodys = (): Ids => ({
  name: "gone",
  build: newId("bld"),
  dep: newId("dep"),
  vm: newId("vm"),
  op: newId("op"),
});

/** Everything in the store that a call could have changed. */
async function everything(world: World): Promise<string> {
  const all = { owner: null, limit: 1000 };
  return JSON.stringify([
    await world.store.operations(all),
    await world.store.builds(all),
    await world.store.instances(all),
    await world.store.deployments(all),
  ]);
}

test("the matrix has every tool of the table, each in exactly one kind", () => {
  expect(Object.keys(CASES)).toEqual(TOOLS.map(({ name }) => name));
});

describe.each(TOOLS.map((tool) => [tool.name, tool] as const))("%s", (name, tool) => {
  const { inputs, kind } = CASES[name];
  const input = (of: Ids, free: string) => inputs(of, free)[0] ?? {};
  const reads = tool.annotations.readOnlyHint;
  let world: World;
  let ids: Ids;

  beforeAll(async () => {
    world = await openWorld();
    ids = await withRed(world);
  });
  afterAll(async () => {
    await world[Symbol.asyncDispose]();
  });

  test("a token with one scope may use the tool if the scope is the tool's own or admin; listings agree; nothing changes", async () => {
    const before = await everything(world);
    for (const scope of [null, ...SCOPES]) {
      const principal: Principal = { ...ALICE, scopes: new Set(scope === null ? [] : [scope]) };
      const allowed = scope === tool.scope || scope === "admin";
      expect(world.control.offers(principal, name), String(scope)).toBe(allowed);
      const error = await world.refused(name, { ...input(ids, "web"), nonsense: 1 }, principal);
      expect(error.code, String(scope)).toBe(allowed ? "invalid" : "forbidden");
    }
    expect(await everything(world)).toBe(before);
  });

  test.each([
    [{ readOnly: true }, reads ? "invalid" : "forbidden"],
    [{ denyTools: [name] }, "not_found"],
    [{ allowTools: [] }, "not_found"],
    [{ allowTools: [name], denyTools: [name] }, "not_found"],
    [{ allowTools: [name] }, "invalid"],
  ])("the operator's bound %j holds for every principal, also admins", async (bound, code) => {
    const control = createControl({ ...world, ...bound });
    for (const principal of [ALICE, ROOT]) {
      const lacks = tool.scope === "admin" && principal === ALICE;
      const said = lacks && code === "invalid" ? "forbidden" : code;
      expect(control.offers(principal, name)).toBe(said === "invalid");
      await expect(control.call(principal, name, { nonsense: 1 })).rejects.toMatchObject({ code: said });
    }
  });

  for (const [who, { principal, sees }] of Object.entries(WHO)) {
    for (const [which, { bounds, fits }] of Object.entries(BOUNDS)) {
      const caller: Principal = bounds ? { ...principal, bounds } : principal;
      // A token with bounds sees only its own owner's records, whatever its scopes.
      const visible = sees && fits && (principal.owner === ALICE.owner || bounds === undefined);
      const law = `the scopes, owner and bounds of ${who} with ${which} decide the answer`;

      if (kind === "admins") {
        test(law, async () => {
          const before = await everything(world);
          if (caller.scopes.has("admin") && !bounds) {
            expect(JSON.stringify(await world.call(name, input(ids, "web"), caller))).toContain("node_");
          } else {
            expect((await world.refused(name, input(ids, "web"), caller)).code).toBe("forbidden");
          }
          expect(await everything(world)).toBe(before);
        });
      } else if (kind === "lists") {
        test(law, async () => {
          const said = JSON.stringify(await world.call(name, input(ids, "web"), caller));
          expect([ids.build, ids.vm, ids.op].some((id) => said.includes(id))).toBe(visible);
        });
      } else if (kind === "names" && visible) {
        test(law, async () => {
          await using own = reads ? null : await openWorld();
          const [where, what] = own ? [own, await withRed(own)] : [world, ids];
          const said = JSON.stringify(await where.call(name, input(what, "web"), caller));
          expect(Object.values(what).some((id) => said.includes(id))).toBe(true);
        });
      } else if (kind === "names") {
        test(law, async () => {
          const before = await everything(world);
          const absent = inputs(nobodys(), "web");
          for (const [way, asked] of inputs(ids, "web").entries()) {
            const error = await world.refused(name, asked, caller);
            expect(error.code).toBe("not_found");
            expect(plain(error)).toBe(plain(await world.refused(name, absent[way], caller)));
          }
          expect(await everything(world)).toBe(before);
        });
      } else {
        test(law, async () => {
          const before = await everything(world);
          if (bounds?.instances) {
            const error = await world.refused(name, input(ids, "stranger"), caller);
            expect(error.code).toBe("forbidden");
            expect(await everything(world)).toBe(before);
          }
          const free = bounds?.instances ? bounds.instances.at(-1) : `free-${law.length}`;
          if (free === undefined) return;
          const made = await world.call(name, input(ids, free), caller);
          const pairs = bounds?.metadata ?? {};
          const build = await world.store.build(principal.owner, made["build_id"] as `bld_${string}`);
          expect([build.name, build.metadata]).toEqual([free, pairs]);
          if (made["instance_id"] === undefined) return;
          const vm = await world.store.instance(principal.owner, made["instance_id"] as `vm_${string}`);
          expect([vm.name, vm.config.metadata]).toEqual([free, pairs]);
        });
      }
    }
  }
});
