import { createClient } from "@formation-mcp/client";
import { FormationError } from "@formation-mcp/contract";
import { TOOLS } from "@formation-mcp/tools";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { drop, reply, type TestServer, testServer } from "./server.ts";

let server: TestServer;
beforeEach(async () => {
  server = await testServer();
});
afterEach(() => server.close());

const client = (more: object = {}) =>
  createClient({ url: server.url, token: "fmt_x_y", random: () => 0, ...more });
const failed = (promise: Promise<unknown>) =>
  promise.then(
    () => null,
    (thrown: unknown) => thrown as FormationError,
  );

describe("an error of the server", () => {
  it("comes back whole: code, message, remedy, field, and what failed", async () => {
    const record = {
      code: "invalid",
      message: "run 2/2 failed.",
      remedy: "Mend it.",
      field: "formfile.run[1]",
      step: "run 2/2",
      exit_code: 3,
      log_tail: ["a", "b"],
    } as const;
    server.on("/api/tools/pack_build", () => {
      const { code, message, ...details } = record;
      throw new FormationError(code, message, { ...details, log_tail: [...details.log_tail] });
    });
    const error = await failed(client().call("pack_build", { formfile: {} }));
    expect(error).toBeInstanceOf(FormationError);
    expect(error?.toRecord()).toEqual(record);
  });

  it.each([
    [401, "unauthenticated"],
    [403, "forbidden"],
    [413, "limit"],
    [502, "unavailable"],
    [500, "internal"],
  ])("of another program in between, HTTP %i, becomes %s", async (status, code) => {
    server.on("/api/tools/vm_list", (_, response) => {
      response.writeHead(status, { "content-type": "text/html" });
      response.end("<h1>no</h1>");
    });
    expect(await failed(client().call("vm_list", {}))).toMatchObject({
      code,
      message: expect.stringContaining(server.url),
    });
  });

  it("is unavailable, with the URL, where nothing answers", async () => {
    const { url } = server;
    const someone = client();
    await server.close();
    const error = await failed(someone.whoami());
    expect(error).toMatchObject({ code: "unavailable", message: expect.stringContaining(url) });
    expect(error?.details.remedy).toContain("URL");
    server = await testServer();
  });

  it("is unavailable where something else answers", async () => {
    server.on("/api/auth/whoami", (_, response) => response.writeHead(200).end("<html>Welcome"));
    expect(await failed(client().whoami())).toMatchObject({ code: "unavailable" });
  });

  it("is unavailable where the answer takes too long, and cancelled when the caller has enough", async () => {
    server.on("/api/auth/whoami", () => new Promise(() => {}));
    expect(await failed(client({ timeoutMs: 30 }).tokens.create({ name: "x" }))).toMatchObject({
      code: "not_found",
    });
    server.on("/api/tokens", () => new Promise(() => {}));
    const late = await failed(client({ timeoutMs: 30 }).tokens.create({ name: "x" }));
    expect(late).toMatchObject({ code: "unavailable", message: expect.stringContaining("in time") });
    const stop = new AbortController();
    const asked = failed(client().whoami({ signal: stop.signal }));
    stop.abort();
    expect(await asked).toMatchObject({ code: "cancelled" });
  });

  it("says so when the server sends requests elsewhere, and does not follow with the token", async () => {
    server.on("/api/auth/whoami", (_, response) =>
      response.writeHead(302, { location: "https://elsewhere.example.org/" }).end(),
    );
    expect(await failed(client().whoami())).toMatchObject({ code: "invalid" });
    expect(server.count("/api/auth/whoami")).toBe(1);
  });
});

describe("what is lost is sent again", () => {
  it("starts nothing twice: the same key goes along", async () => {
    server.on("/api/tools/pack_ship", () => ({ done: true }));
    server.next("/api/tools/pack_ship", drop);
    server.next("/api/tools/pack_ship", (response) => reply(response, 502, {}));
    await client().call("pack_ship", { build_id: "bld_x", wait_seconds: 0 });
    const keys = server.seen.map(
      ({ json }) => (json["parameters"] as { idempotency_key: string }).idempotency_key,
    );
    expect(keys).toHaveLength(3);
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^auto-[0-9a-f]{32}$/);
  });

  it.each(TOOLS)(
    "$name may be: it takes a key and gets one, or changes nothing when repeated",
    async (tool) => {
      server.on(`/api/tools/${tool.name}`, () => ({ done: true }));
      await client().call(tool.name, { wait_seconds: 0 } as never);
      const sent = server.seen[0]?.json["parameters"] as object;
      const takesKey = "idempotency_key" in tool.input.shape;
      expect("idempotency_key" in sent).toBe(takesKey);
      if (!takesKey) expect(tool.annotations.idempotentHint).toBe(true);
    },
  );

  it("keeps a key of the caller's", async () => {
    server.on("/api/tools/vm_delete", () => ({ done: true }));
    await client().call("vm_delete", {
      instance: "a",
      confirm: "a",
      idempotency_key: "mine",
      wait_seconds: 0,
    });
    expect(server.seen[0]?.json["parameters"]).toMatchObject({ idempotency_key: "mine" });
  });

  it("after as long as the server asks for", async () => {
    server.on("/api/tools/vm_list", () => ({ instances: [], cursor: null }));
    server.next("/api/tools/vm_list", (response) =>
      reply(response, 429, { error: { code: "limit", message: "slowly" } }, { "retry-after": "1" }),
    );
    const began = performance.now();
    await client().call("vm_list", {});
    expect(performance.now() - began).toBeGreaterThanOrEqual(950);
    expect(server.seen).toHaveLength(2);
  });

  it("a pause longer than 10 seconds is an error instead", async () => {
    server.on("/api/tools/vm_list", (_, response) =>
      reply(response, 429, { error: { code: "limit", message: "slowly" } }, { "retry-after": "3600" }),
    );
    expect(await failed(client().call("vm_list", {}))).toMatchObject({ code: "limit" });
    expect(server.seen).toHaveLength(1);
  });

  it("never when it might do something twice: a token is made once", async () => {
    server.next("/api/tokens", drop);
    expect(await failed(client().tokens.create({ name: "ci" }))).toMatchObject({ code: "unavailable" });
    expect(server.seen).toHaveLength(1);
  });

  it("never when it is the outcome of an operation, which stays what it is", async () => {
    server.on("/api/tools/pack_build", () => {
      throw new FormationError("unavailable", "The registry did not answer.", { step: "pull" });
    });
    expect(await failed(client().call("pack_build", { formfile: {} }))).toMatchObject({
      code: "unavailable",
    });
    expect(server.seen).toHaveLength(1);
  });
});

describe("a server's URL", () => {
  it.each(["", "vm.example.org", "ftp://x", "https://x/somewhere", "https://a:b@x", "https://x/?q"])(
    "%j is refused",
    (url) => {
      expect(() => createClient({ url })).toThrowError(expect.objectContaining({ code: "invalid" }));
    },
  );

  it("is an origin, also if the MCP endpoint's is given", () => {
    expect(createClient({ url: "https://vm.example.org/mcp" }).url).toBe("https://vm.example.org");
    expect(createClient({ url: "https://vm.example.org/" }).url).toBe("https://vm.example.org");
  });

  it("is not plain HTTP beyond this machine, unless that is allowed", () => {
    expect(() => createClient({ url: "http://10.0.0.7" })).toThrowError(/plain HTTP/);
    expect(() => createClient({ url: "http://localhost.example.org" })).toThrowError(/plain HTTP/);
    expect(createClient({ url: "http://10.0.0.7", allowHttp: true }).url).toBe("http://10.0.0.7");
    for (const here of ["http://localhost:1", "http://127.1.2.3:1", "http://[::1]:1"]) {
      expect(createClient({ url: here }).url).toBe(here);
    }
  });
});

describe("the tools of a user", () => {
  it("are listed without the names that are there for old clients", async () => {
    server.on("/api/tools", () => ({
      tools: [
        { name: "vm_list", title: "List VMs", description: "Lists.", scope: "vm:read" },
        { name: "vm.list", description: "Lists.", alias_of: "vm_list" },
      ],
    }));
    expect(await client().tools()).toEqual([
      { name: "vm_list", title: "List VMs", description: "Lists.", scope: "vm:read" },
    ]);
  });
});

describe("API tokens", () => {
  it("are made, listed and revoked", async () => {
    const view = {
      id: "tok_1",
      name: "ci",
      scopes: ["vm:read"],
      bounds: { instances: ["web"] },
      created_at: "2026-01-01T00:00:00.000Z",
      expires_at: null,
      last_used_at: null,
    };
    server.on("/api/tokens", ({ method }) =>
      method === "POST" ? { token: "fmt_a_b", ...view } : { tokens: [view] },
    );
    server.on("/api/tokens/tok_1", () => ({ revoked: true }));
    const record = { ...view, created_at: Date.UTC(2026, 0) };
    const { tokens } = client();
    const request = {
      name: "ci",
      scopes: ["vm:read"],
      bounds: { instances: ["web"] },
      expires_in_seconds: 60,
    };
    expect(await tokens.create(request)).toEqual({ token: "fmt_a_b", record });
    expect(server.seen[0]?.json).toEqual(request);
    expect(await tokens.list()).toEqual([record]);
    await tokens.revoke("tok_1");
    expect(server.seen.at(-1)).toMatchObject({ method: "DELETE", path: "/api/tokens/tok_1" });
  });
});
