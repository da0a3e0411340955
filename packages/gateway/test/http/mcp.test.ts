import { allScopes, SCOPES } from "@formation-mcp/auth";
import { TOOLS } from "@formation-mcp/tools";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { expect, test } from "vitest";
import { type Json, message, openTestGateway, rpc, type TestGateway } from "./test-gateway.ts";

const BASIC = "pack:read vm:read operation:read";
const METADATA = 'resource_metadata="https://vm.example.org/.well-known/oauth-protected-resource/mcp"';

/** The SDK's client over the gateway, without a socket. */
async function connect(gateway: TestGateway, token: string, era: "modern" | "legacy"): Promise<Client> {
  const client = new Client(
    { name: "test", version: "0" },
    era === "modern" ? { versionNegotiation: { mode: { pin: "2026-07-28" } } } : {},
  );
  const transport = new StreamableHTTPClientTransport(new URL("https://vm.example.org/mcp"), {
    requestInit: { headers: { authorization: `Bearer ${token}` } },
    fetch: (url, init) => {
      const { pathname } = new URL(url);
      return gateway.ask(pathname, init);
    },
  });
  await client.connect(transport);
  return client;
}

test.each(["modern", "legacy"] as const)(
  "a client of the %s era lists and calls tools with a token",
  async (era) => {
    await using gateway = await openTestGateway();
    const { token } = await gateway.signIn();
    const client = await connect(gateway, token, era);
    const { tools } = await client.listTools();
    const own = TOOLS.filter(({ scope }) => scope !== "admin");
    expect(tools.map(({ name }) => name)).toEqual(own.map(({ name }) => name));
    const { structuredContent } = await client.callTool({ name: "vm_list", arguments: {} });
    expect(structuredContent).toEqual({ instances: [], cursor: null });
    await client.close();
  },
);

test("without a token the answer says where tokens are and what to ask for, and names no error", async () => {
  await using gateway = await openTestGateway();
  const asked = async (revision: string | null) => {
    const request = rpc(null, "tools/list");
    const headers = new Headers(request.headers);
    headers.delete("mcp-protocol-version");
    if (revision !== null) headers.set("mcp-protocol-version", revision);
    const response = await gateway.ask("/mcp", { ...request, headers: Object.fromEntries(headers) });
    expect(response.status).toBe(401);
    return response.headers.get("www-authenticate");
  };
  expect(await asked("2026-07-28")).toBe(`Bearer scope="${BASIC}", ${METADATA}`);
  // An older client can't ask for more later.
  const all = [...allScopes()].join(" ");
  for (const revision of [null, "2025-11-25"])
    expect(await asked(revision)).toBe(`Bearer scope="${all}", ${METADATA}`);
});

test.each([
  ["a token of nobody", "Bearer nonsense"],
  ["no bearer token", "Basic YTpi"],
  ["an empty one", "Bearer "],
  ["two of them", "Bearer a, Bearer b"],
])("%s is invalid", async (_, authorization) => {
  await using gateway = await openTestGateway();
  const response = await gateway.ask("/mcp", { headers: { authorization } });
  expect(response.status).toBe(401);
  expect(response.headers.get("www-authenticate")).toContain('error="invalid_token"');
  expect(await response.text()).not.toContain("nonsense");
});

test("a token in the query is none", async () => {
  await using gateway = await openTestGateway();
  const { token } = await gateway.signIn();
  const { headers, ...rest } = rpc(null, "tools/list");
  const response = await gateway.ask(`/mcp?access_token=${token}`, { ...rest, headers: headers ?? {} });
  expect(response.status).toBe(401);
  expect(JSON.stringify(gateway.logged)).not.toContain(token);
});

test("listing shows what the token may call, and the operator's bound goes before every scope", async () => {
  await using gateway = await openTestGateway({ readOnly: true, denyTools: ["vm_logs"] });
  const names = async (token: string) => {
    const { result } = await message(await gateway.ask("/mcp", rpc(token, "tools/list")));
    return (result as { tools: { name: string }[] }).tools.map(({ name }) => name);
  };
  const reading = TOOLS.filter(
    ({ annotations, name, scope }) => annotations.readOnlyHint && name !== "vm_logs" && scope !== "admin",
  );
  expect(await names((await gateway.signIn()).token)).toEqual(reading.map(({ name }) => name));
  expect(await names((await gateway.signIn(["vm:read"])).token)).toEqual(["vm_list", "vm_status"]);
});

test("a call without its scope is stepped up before anything of it is done: what the token has and what it lacks", async () => {
  await using gateway = await openTestGateway();
  for (const tool of TOOLS) {
    const held = SCOPES.filter((scope) => scope !== tool.scope && scope !== "admin");
    const { token, owner } = await gateway.signIn(held);
    const response = await gateway.ask("/mcp", rpc(token, "tools/call", { name: tool.name, arguments: {} }));
    expect(response.status, tool.name).toBe(403);
    const challenge = response.headers.get("www-authenticate") ?? "";
    expect(challenge).toContain('error="insufficient_scope"');
    expect(challenge).toContain(METADATA);
    const asked = /scope="([^"]*)"/.exec(challenge)?.[1]?.split(" ") ?? [];
    expect(new Set(asked)).toEqual(new Set([...held, tool.scope]));
    const [line] = (await gateway.audited()).slice(-1);
    expect(line).toMatchObject({ owner, action: tool.name, outcome: "forbidden" });
    expect(line?.credential).toBeTruthy();
  }
});

test("what the operator denies no scope opens: it is an error of the call, not a challenge", async () => {
  await using gateway = await openTestGateway({ readOnly: true, denyTools: ["vm_list"] });
  const { token } = await gateway.signIn(["operation:read"]);
  for (const name of ["vm_create", "vm_list"]) {
    const response = await gateway.ask("/mcp", rpc(token, "tools/call", { name, arguments: {} }));
    expect(response.status, name).toBe(200);
    expect(response.headers.has("www-authenticate")).toBe(false);
    expect((await message(response))["result"]).toMatchObject({ isError: true });
  }
});

test("a call's line in the audit log says who, with which token, from where, and holds no argument", async () => {
  await using gateway = await openTestGateway();
  const { token, owner } = await gateway.signIn();
  const name = "somebodys-vm";
  await message(
    await gateway.ask(
      "/mcp",
      rpc(token, "tools/call", { name: "vm_delete", arguments: { instance: name, confirm: name } }),
    ),
  );
  const lines = (await gateway.audited()).filter(({ action }) => action === "vm_delete");
  const [begun, line] = lines;
  expect([begun?.outcome, lines.length]).toEqual(["begun", 2]);
  expect(line).toMatchObject({ owner, outcome: "not_found", address: "203.0.113.7", target: name });
  expect(line?.trace_id).toMatch(/^[0-9a-f]{32}$/);
  expect(line?.credential).toBeTruthy();
  expect(JSON.stringify(lines)).not.toMatch(/confirm|eyJ/);
});

test("over HTTP nobody names a directory of the server, from loopback neither", async () => {
  await using gateway = await openTestGateway({ publicUrl: "http://127.0.0.1:3010" });
  const { token } = await gateway.signIn(SCOPES);
  const formfile: Json = { from: "busybox", name: "hello", include: ["a"], entrypoint: ["true"] };
  const call = rpc(token, "tools/call", { name: "pack_build", arguments: { formfile, context_dir: "/etc" } });
  const said = await message(await gateway.ask("/mcp", { ...call, from: "127.0.0.1" }));
  expect(JSON.stringify(said)).toContain("formation-mcp/error");
  expect((said["result"] as { _meta: Json })._meta["formation-mcp/error"]).toMatchObject({
    code: "forbidden",
  });
});

test.each([
  ["no JSON", "{", 400, -32_700],
  ["another type", "a=b", 415, -32_000],
  ["too much", " ".repeat(4 * 1024 * 1024 + 1), 413, -32_600],
])("%s is refused in JSON-RPC's words", async (what, body, status, code) => {
  await using gateway = await openTestGateway();
  const { token } = await gateway.signIn();
  const request = rpc(token, "tools/list");
  const headers = {
    ...(request.headers as Record<string, string>),
    ...(what === "another type" ? { "content-type": "application/x-www-form-urlencoded" } : {}),
  };
  const response = await gateway.ask("/mcp", { method: "POST", headers, body });
  expect(response.status).toBe(status);
  expect(await response.json()).toMatchObject({ jsonrpc: "2.0", id: null, error: { code } });
});

test("ten thousand keys, a prototype, deep nesting: each is an answer, and the next call too", async () => {
  await using gateway = await openTestGateway();
  const { token } = await gateway.signIn();
  const keys = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`k${i}`, i]));
  const deep = `${'{"a":'.repeat(5000)}1${"}".repeat(5000)}`;
  const call = (args: string) => ({
    ...rpc(token, "x"),
    body: `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"vm_list","arguments":${args}}}`,
  });
  for (const args of [
    JSON.stringify(keys),
    '{"__proto__":{"scopes":["admin"]}}',
    '{"constructor":{"prototype":{"polluted":1}}}',
    deep,
  ]) {
    const response = await gateway.ask("/mcp", call(args));
    expect([200, 400]).toContain(response.status);
    expect((await response.text()).length).toBeLessThan(20_000);
  }
  expect(({} as Json)["polluted"]).toBeUndefined();
  expect((await gateway.ask("/mcp", call("{}"))).status).toBe(200);
});

test("a call that waits answers with what there is when the server leaves", async () => {
  await using gateway = await openTestGateway();
  const { token } = await gateway.signIn();
  const build = rpc(token, "tools/call", {
    name: "pack_build",
    arguments: { formfile: { from: "busybox", name: "hello", entrypoint: ["true"] }, wait_seconds: 45 },
  });
  const waiting = gateway.ask("/mcp", build).then(message);
  await expect
    .poll(async () => (await gateway.store.operations({ owner: null, limit: 1 })).items.length)
    .toBe(1);
  gateway.leave();
  const { result } = (await waiting) as { result: { structuredContent: Json } };
  expect(result.structuredContent).toMatchObject({ done: false });
});
