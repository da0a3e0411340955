import { SCOPES } from "@formation-mcp/auth";
import { FormationError, type Id, newId, SUBJECTS } from "@formation-mcp/contract";
import { REST_ROUTES, type RestRoute } from "@formation-mcp/gateway";
import { LISTING } from "@formation-mcp/tools/listing";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVERYTHING, openWorld, type Someone, until, type World } from "./world.ts";

let world: World;
let alice: Someone;
let bob: Someone;
let admin: Someone;

beforeAll(async () => {
  world = await openWorld();
  alice = await world.someone(EVERYTHING);
  bob = await world.someone(EVERYTHING);
  admin = await world.someone(SCOPES);
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

const label = ({ method, path }: RestRoute) => `${method} ${path}`;
const concrete = (path: string) => path.replace(/\{\w+\}/g, "nothing");
const guarded = REST_ROUTES.filter(({ access }) => access !== "public");
const scoped = REST_ROUTES.filter(({ access }) => access !== "public" && access !== "any");

const send = ({ method, path }: RestRoute, token?: string) =>
  world.ask(method, concrete(path), {
    ...(token === undefined ? {} : { token }),
    ...(method === "GET" ? {} : { json: {} }),
  });

async function tokenWith(scopes: readonly (typeof SCOPES)[number][]): Promise<string> {
  return (await world.someone(scopes)).token;
}

async function lastAudit() {
  const { items } = await world.store.audit.page({ limit: 1 });
  return items[0];
}

describe("every route", () => {
  it.each(guarded.map((route) => [label(route), route] as const))(
    "%s: 401 with a challenge without a token, or with one that is none",
    async (_, route) => {
      for (const token of [undefined, "nonsense", "fmt_0_0", "eyJhbGciOiJub25lIn0.e30."]) {
        const said = await send(route, token);
        expect(said.status).toBe(401);
        expect(said.headers.get("www-authenticate")).toContain("resource_metadata=");
        expect(said.body).toMatchObject({ status: "error", data: null, error: { code: "unauthenticated" } });
      }
    },
  );

  it.each(scoped.map((route) => [label(route), route] as const))(
    "%s: 403 that names its scope for a token with every other one, told to the audit log",
    async (_, route) => {
      const token = await tokenWith(SCOPES.filter((scope) => scope !== route.access && scope !== "admin"));
      const said = await send(route, token);
      expect(said.status).toBe(403);
      expect(said.body).toMatchObject({ status: "error", error: { code: "forbidden" } });
      expect(said.headers.get("www-authenticate")).toMatch(
        new RegExp(`insufficient_scope.*scope="[^"]*\\b${route.access}\\b`),
      );
      expect(await lastAudit()).toMatchObject({
        action: label(route),
        outcome: "forbidden",
        address: "192.0.2.7",
        trace_id: "0123456789abcdef0123456789abcdef",
      });
    },
  );

  it.each(LISTING.map(({ name, scope }) => [name, scope] as const))(
    "POST /api/tools/%s: 403 that names the scope for a token without it",
    async (name, scope) => {
      const token = await tokenWith(SCOPES.filter((one) => one !== scope && one !== "admin"));
      const said = await world.ask("POST", `/api/tools/${name}`, { token, json: {} });
      expect(said.status).toBe(403);
      expect(said.headers.get("www-authenticate")).toMatch(new RegExp(`scope="[^"]*${scope}`));
      const listed = await world.ask("GET", "/api/tools", { token });
      const tools = listed.data["tools"] as { name: string; alias_of?: string }[];
      expect(tools.some((tool) => tool.name === name || tool.alias_of === name)).toBe(false);
    },
  );

  it("of an old name: 403 whatever the input is, and no other scope is needed than the tool's own", async () => {
    const token = await tokenWith(SCOPES.filter((one) => one !== "vm:write" && one !== "admin"));
    for (const name of ["form_pack_ship", "vm.create", "vm.control", "vm.delete"]) {
      for (const json of [{}, { parameters: [] }, { parameters: { nonsense: 1 } }]) {
        expect((await world.ask("POST", `/api/tools/${name}`, { token, json })).status).toBe(403);
      }
    }
    const carol = await world.someone(EVERYTHING);
    const made = await world.ask("POST", "/api/tools/vm.create", {
      token: carol.token,
      json: { name: "short-lived" },
    });
    const only = await world.ask("POST", "/api/tokens", {
      token: carol.token,
      json: { name: "deleter", scopes: ["vm:write"] },
    });
    const deleted = await world.ask("POST", "/api/tools/vm.delete", {
      token: String(only.data["token"]),
      json: { id: made.data["instance_id"] },
    });
    expect(deleted.data).toMatchObject({ success: true, name: "short-lived" });
  });

  it("answers other methods with 405 and Allow, other paths with 404, both in the envelope", async () => {
    const wrong = await world.ask("DELETE", "/api/tools", { token: alice.token });
    expect(wrong.status).toBe(405);
    expect(wrong.headers.get("allow")).toBe("GET");
    for (const path of ["/api/nothing", "/api/tools/a/b", "/api/auth"]) {
      expect((await world.ask("GET", path, { token: alice.token })).body).toMatchObject({
        status: "error",
        error: { code: "not_found" },
      });
    }
  });

  it("says nothing of what is somebody else's but that it is not there", async () => {
    const built = await world.ask("POST", "/api/tools/pack_build", {
      token: alice.token,
      json: { formfile: { from: "busybox", name: "hers", entrypoint: "true" }, wait_seconds: 0 },
    });
    const { build_id, operation_id } = built.data as { build_id: string; operation_id: string };
    const hers = [
      `/api/operations/${operation_id}`,
      `/api/operations/${operation_id}/events`,
      `/api/builds/${build_id}/logs`,
    ];
    for (const path of hers) {
      const said = await world.ask("GET", path, { token: bob.token });
      const other = await world.ask("GET", path.replace(/[0-9a-z]{5}(?=$|\/)/, "00000"), {
        token: bob.token,
      });
      expect(said.status).toBe(404);
      expect(other.status).toBe(404);
      expect(JSON.stringify(said.body)).not.toContain("hers");
    }
    expect((await world.ask("GET", "/api/operations", { token: bob.token })).data["operations"]).toEqual([]);
    const all = await world.ask("GET", `/api/operations?user_id=${alice.owner}`, { token: admin.token });
    expect(all.data["operations"]).toMatchObject([{ id: operation_id, status: "queued" }]);
    const looked = async () => {
      const { items } = await world.store.audit.page({ action: "operation_list", outcome: "ok", limit: 50 });
      return items.filter(({ owner }) => owner !== bob.owner);
    };
    await until(async () => (await looked()).length > 0);
    expect(await looked()).toMatchObject([{ owner: admin.owner, target: alice.owner }]);
    const bounds = { instances: ["hers"] };
    const fenced = await world.ask("POST", "/api/tokens/narrow", { token: admin.token, json: { bounds } });
    const outside = await world.ask("GET", `/api/operations?user_id=${alice.owner}`, {
      token: String(fenced.data["token"]),
    });
    expect(outside.status).toBe(403);
    expect((await world.ask("GET", "/api/operations", { token: admin.token })).data["operations"]).toEqual(
      [],
    );
    expect(
      (await world.ask("GET", `/api/operations?user_id=${alice.owner.toLowerCase()}`, { token: alice.token }))
        .status,
    ).toBe(200);
  });
});

describe("a call of a tool", () => {
  it("takes the input as it is, within parameters, or none", async () => {
    for (const json of [
      { limit: 5 },
      { parameters: { limit: 5 } },
      { parameters: { limit: 5 }, context: {} },
      {},
    ]) {
      const said = await world.ask("POST", "/api/tools/vm_list", { token: alice.token, json });
      expect(said.body).toMatchObject({ status: "success", data: { instances: [] }, message: null });
    }
    const bare = await world.ask("POST", "/api/tools/vm_list", { token: alice.token });
    expect(bare.status).toBe(200);
    const told = await world.ask("POST", "/api/tools/vm_list", {
      token: alice.token,
      json: { parameters: {}, context: { a: "b" } },
    });
    expect(told.body["message"]).toContain("context is not used");
  });

  it("is made once under an Idempotency-Key, whichever name and whichever way of writing it", async () => {
    const formfile = { from: "busybox", name: "once", entrypoint: "true" };
    const json = { formfile, wait_seconds: 0 };
    const options = { token: alice.token, json, headers: { "idempotency-key": "k1" } };
    const first = await world.ask("POST", "/api/tools/pack_build", options);
    const second = await world.ask("POST", "/api/tools/pack_build", options);
    expect(second.data["build_id"]).toBe(first.data["build_id"]);
    const other = { ...options, json: { ...json, formfile: { ...formfile, name: "twice" } } };
    expect((await world.ask("POST", "/api/tools/pack_build", other)).status).toBe(409);
    const both = { ...options, json: { ...json, idempotency_key: "k2" } };
    expect((await world.ask("POST", "/api/tools/pack_build", both)).status).toBe(400);
    expect((await world.ask("POST", "/api/tools/vm_list", { ...options, json: {} })).status).toBe(200);
  });

  it("gets no directory of the server's machine", async () => {
    const formfile = { from: "busybox", name: "dir", entrypoint: "true", include: ["."] };
    const said = await world.ask("POST", "/api/tools/pack_build", {
      token: alice.token,
      json: { formfile, context_dir: "/etc" },
    });
    expect(said.status).toBe(403);
    expect(said.body).toMatchObject({ error: { code: "forbidden", field: "context_dir" } });
  });

  it("is audited once, by control, with no argument in it", async () => {
    const before = (await world.store.audit.page({ limit: 200 })).items.length;
    const json = { instance: "secret-name-of-nobody" };
    await world.ask("POST", "/api/tools/vm_status", { token: alice.token, json });
    const { items } = await world.store.audit.page({ limit: 200 });
    const added = items.slice(0, items.length - before);
    expect(added.map(({ action, outcome, owner }) => ({ action, outcome, owner }))).toEqual([
      { action: "vm_status", outcome: "not_found", owner: alice.owner },
    ]);
  });

  it("that changes something is in the audit log before it is made and once it is done, nothing of it in between", async () => {
    const json = { name: "hidden words", scopes: ["vm:read"] };
    const made = await world.ask("POST", "/api/tokens", { token: alice.token, json });
    expect(made.status).toBe(200);
    const { items } = await world.store.audit.page({ limit: 2 });
    expect(items).toMatchObject([
      { action: "POST /api/tokens", outcome: "ok", owner: alice.owner, target: made.data["id"] },
      { action: "POST /api/tokens", outcome: "begun", owner: alice.owner },
    ]);
    expect(JSON.stringify(items)).not.toContain("hidden");
    expect(JSON.stringify(items)).not.toContain(made.data["token"]);
  });

  it("that changes something is not made while the audit log can't be written", async () => {
    const { record } = world.audit;
    world.audit.record = async () => {
      throw new FormationError("unavailable", "The log can't be written.");
    };
    try {
      const before = (await world.authority.apiTokens(alice.owner)).length;
      const said = await world.ask("POST", "/api/tokens", { token: alice.token, json: { name: "unseen" } });
      expect(said.status).toBe(503);
      expect(said.headers.get("retry-after")).toMatch(/^\d+$/);
      expect(await world.authority.apiTokens(alice.owner)).toHaveLength(before);
    } finally {
      world.audit.record = record;
    }
  });

  it("is told how its operation ended, and not to come back, under the key of one that has failed", async () => {
    await using other = await openWorld();
    const { token } = await other.someone(EVERYTHING);
    const call = () =>
      other.ask("POST", "/api/tools/pack_build", {
        token,
        json: {
          parameters: {
            formfile: { from: "busybox", name: "gone", entrypoint: ["true"] },
            idempotency_key: "a-build-that-fails",
            wait_seconds: 0,
          },
        },
      });
    const { data } = await call();
    const free = { vcpus: 64, memory_mb: 65_536, disk_gb: 1_000 };
    const node_id = newId("node");
    const request = { node_id, subjects: [SUBJECTS.build], free, leaseMs: 60_000 };
    await other.store.claim(request);
    const lease = { operation_id: data["operation_id"] as Id<"op">, attempt: 1, node_id };
    const error = { code: "unavailable", message: "The registry does not answer." } as const;
    await other.store.settle(lease, { state: "failed", error });
    const said = await call();
    expect(said.status).toBe(503);
    expect(said.headers.has("retry-after")).toBe(false);
    expect(said.body).toMatchObject({ error: { operation_id: data["operation_id"] } });
  });
});
