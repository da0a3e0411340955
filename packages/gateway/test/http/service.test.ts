import { SCOPES } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import { expect, test } from "vitest";
import { message, openTestGateway, rpc, withToken } from "./test-gateway.ts";

test("the resource's metadata names the resource, its authorization server and what to ask for first (RFC 9728)", async () => {
  await using gateway = await openTestGateway();
  for (const path of ["/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp"]) {
    expect(await (await gateway.ask(path)).json()).toMatchObject({
      resource: "https://vm.example.org/mcp",
      authorization_servers: ["https://vm.example.org"],
      scopes_supported: ["pack:read", "vm:read", "operation:read"],
      bearer_methods_supported: ["header"],
    });
  }
});

test("it lives as long as it answers, under whatever name", async () => {
  await using gateway = await openTestGateway();
  const response = await gateway.ask("/health/live", { headers: { host: "10.0.0.8:3010" } });
  expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
});

const BREAK = () => Promise.reject(new FormationError("unavailable", "/var/lib/secret.db is gone."));

test("it is ready when every part works, and names the part that does not, without a word about how", async () => {
  await using well = await openTestGateway();
  const ready = await well.ask("/health/ready");
  expect([ready.status, await ready.json()]).toEqual([
    200,
    { status: "ok", parts: { store: "ok", queue: "ok", artifacts: "ok", signing_key: "ok" } },
  ]);
  const parts = {
    store: { counters: { spend: BREAK } },
    queue: { queue: { deadLetters: BREAK } as never },
    artifacts: { artifacts: { put: BREAK } as never },
    signing_key: { authority: { ...well.authority, ready: BREAK } },
  };
  for (const [name, broken] of Object.entries(parts)) {
    await using gateway = await openTestGateway({ parts: broken });
    const response = await gateway.ask("/health/ready");
    expect(response.status, name).toBe(503);
    expect(Number(response.headers.get("retry-after")), name).toBeGreaterThan(0);
    const text = await response.text();
    expect(JSON.parse(text)).toMatchObject({ status: "unavailable", parts: { [name]: "failed" } });
    expect(text).not.toContain("secret.db");
  }
});

test("it is not ready any more when it leaves, and lives on", async () => {
  await using gateway = await openTestGateway();
  gateway.leave();
  expect((await gateway.ask("/health/ready")).status).toBe(503);
  expect((await gateway.ask("/health/live")).status).toBe(200);
});

test("metrics are for admins, and for networks that the operator names; loopback is like any other", async () => {
  await using closed = await openTestGateway({ publicUrl: "http://127.0.0.1:3010" });
  expect((await closed.ask("/metrics", { from: "127.0.0.1" })).status).toBe(401);
  await using gateway = await openTestGateway({
    publicUrl: "http://127.0.0.1:3010",
    settings: { metricsFrom: ["192.0.2.0/24"], trustedProxies: ["192.0.2.9/32"] },
  });
  const far = { from: "203.0.113.7" };
  const near = { from: "192.0.2.5" };
  expect((await gateway.ask("/metrics", near)).status).toBe(200);
  expect((await gateway.ask("/metrics", far)).status).toBe(401);
  for (const name of ["x-forwarded-for", "x-real-ip", "forwarded", "via"]) {
    const proxied = { ...near, headers: { [name]: "203.0.113.7" } };
    expect((await gateway.ask("/metrics", proxied)).status, name).toBe(401);
  }
  expect((await gateway.ask("/metrics", { from: "192.0.2.9" })).status, "a proxy speaks for others").toBe(
    401,
  );
  expect((await gateway.ask("/metrics", { ...near, headers: { host: "evil.example" } })).status).toBe(403);
  const user = await gateway.signIn();
  expect((await gateway.ask("/metrics", { ...far, ...withToken(user.token) })).status).toBe(403);
  const admin = await gateway.signIn(SCOPES);
  expect((await gateway.ask("/metrics", { ...far, ...withToken(admin.token) })).status).toBe(200);
});

test("who may scrape calls the server by its address too, for its metrics and nothing else; no name and no page does", async () => {
  await using gateway = await openTestGateway({
    settings: { metricsFrom: ["192.0.2.0/24", "2001:db8::/32"] },
  });
  const near = { from: "192.0.2.5" };
  const by = (host: string, more: Record<string, string> = {}) => ({ ...near, headers: { host, ...more } });
  for (const host of ["10.0.0.11:3010", "10.0.0.11", "[2001:db8::1]:3010"]) {
    expect((await gateway.ask("/metrics", by(host))).status, host).toBe(200);
    expect((await gateway.ask("/metrics", { ...by(host), from: "203.0.113.7" })).status, host).toBe(403);
    expect((await gateway.ask("/metrics", { ...by(host), method: "POST" })).status, host).toBe(403);
    for (const path of ["/", "/api/nodes", "/mcp", "/%6detrics/../api"])
      expect((await gateway.ask(path, by(host))).status, path).toBe(403);
    for (const more of [{ origin: `http://${host}` }, { "x-forwarded-for": "192.0.2.6" }])
      expect((await gateway.ask("/metrics", by(host, more))).status, JSON.stringify(more)).toBe(403);
  }
  for (const host of ["evil.example", "10.0.0.11.evil.example", "1.2.3", "localhost"])
    expect((await gateway.ask("/metrics", by(host))).status, host).toBe(403);
});

test("metrics count requests by pattern and tools by outcome; no caller makes a series", async () => {
  const settings = { metricsFrom: ["127.0.0.0/8"] };
  await using gateway = await openTestGateway({ publicUrl: "http://127.0.0.1:3010", settings });
  const { token } = await gateway.signIn();
  await message(await gateway.ask("/mcp", rpc(token, "tools/call", { name: "vm_list", arguments: {} })));
  await message(
    await gateway.ask(
      "/mcp",
      rpc(token, "tools/call", { name: "vm_status", arguments: { instance: "nobody" } }),
    ),
  );
  for (let i = 0; i < 50; i++) await gateway.ask(`/nothing/${i}`, { method: i % 2 ? "BREW" : "GET" });
  const text = await (await gateway.ask("/metrics", { from: "127.0.0.1" })).text();
  expect(text).toContain('formation_tool_calls_total{tool="vm_list",outcome="ok"} 1');
  expect(text).toContain('formation_tool_calls_total{tool="vm_status",outcome="not_found"} 1');
  expect(text).toContain('formation_http_requests_total{method="POST",route="/mcp",status="200"} 2');
  const series = text.split("\n").filter((line) => line.startsWith("formation_http_requests_total{"));
  expect(series.length).toBeLessThanOrEqual(4);
  expect(text).not.toMatch(/nothing|BREW/);
});

test("an unknown path is told so in the envelope", async () => {
  await using gateway = await openTestGateway();
  const response = await gateway.ask("/wp-login.php");
  expect([response.status, await response.json()]).toMatchObject([
    404,
    { status: "error", data: null, code: "not_found" },
  ]);
});

test("what breaks inside is told to the operator with the trace, to the caller without a word about how", async () => {
  const parts = {
    authority: {
      authenticate: () => Promise.reject(new TypeError("SELECT token FROM secrets")),
      audience: "https://vm.example.org/mcp",
    } as never,
  };
  await using gateway = await openTestGateway({ parts });
  const response = await gateway.ask("/mcp", withToken("abc"));
  expect(response.status).toBe(500);
  const trace = response.headers.get("x-trace-id");
  const text = await response.text();
  expect(text).not.toMatch(/SELECT|secrets|\.ts:/);
  const told = gateway.logged.find(({ level }) => level === "error");
  expect(told?.fields).toMatchObject({ trace_id: trace });
});

test("each request is one line in the log, without query, token or a character that is not seen", async () => {
  await using gateway = await openTestGateway();
  const { token, owner } = await gateway.signIn();
  await gateway.ask("/api/tools?secret=s3cret", {
    ...withToken(token, { "user-agent": "curl\u009b31m\u00ad" }),
  });
  await gateway.ask("/auth/codes/ABCD-EFGH");
  const lines = gateway.logged.filter((line) => line.message === "request");
  expect(lines[0]?.fields).toMatchObject({
    method: "GET",
    path: "/api/tools",
    status: 200,
    owner,
    agent: "curl?31m?",
  });
  expect(lines[1]?.fields["path"]).toBe("/auth/codes/…");
  expect(JSON.stringify(gateway.logged)).not.toMatch(/s3cret|ABCD/);
  expect(JSON.stringify(gateway.logged)).not.toContain(token);
});

test("a trace id is the caller's if it is one, else ours", async () => {
  await using gateway = await openTestGateway();
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const of = async (traceparent: string) =>
    (await gateway.ask("/", { headers: { traceparent } })).headers.get("x-trace-id");
  expect(await of(`00-${trace}-00f067aa0ba902b7-01`)).toBe(trace);
  for (const broken of [
    "",
    "00-x-y-01",
    `00-${"0".repeat(32)}-00f067aa0ba902b7-01`,
    `ff-${trace}-00f067aa0ba902b7-01`,
  ]) {
    expect(await of(broken)).toMatch(/^[0-9a-f]{32}$/);
    expect(await of(broken)).not.toBe(trace);
  }
});

test("the page at / says what this is, and runs nothing", async () => {
  await using gateway = await openTestGateway();
  const response = await gateway.ask("/");
  const text = await response.text();
  expect(text).toContain("https://vm.example.org/mcp");
  expect(text).not.toMatch(/<script|https?:\/\/(?!vm\.example\.org)/);
  expect(response.headers.get("content-security-policy")).toMatch(
    /^default-src 'none'; style-src 'sha256-[^']+';/,
  );
});
