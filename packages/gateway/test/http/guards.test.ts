import { expect, test } from "vitest";
import { openTestGateway, rpc, type TestGateway, withToken } from "./test-gateway.ts";

const NAMES: readonly [what: string, host: string, allowed: boolean][] = [
  ["the public name", "vm.example.org", true],
  ["the public name with a port", "vm.example.org:443", true],
  ["the public name in capitals", "VM.Example.ORG", true],
  ["a name that the operator added", "other.example.org", true],
  ["a name that only begins so", "vm.example.org.evil.example", false],
  ["a name that only ends so", "evilvm.example.org", false],
  ["a rebound name", "evil.example", false],
  ["loopback, where the public name is another", "127.0.0.1:3010", false],
  ["an address of the network", "10.0.0.8", false],
  ["two names", "vm.example.org, evil.example", false],
  ["user information", "vm.example.org@evil.example", false],
  ["nothing", "", false],
];

test.each(NAMES)("Host: %s (%s)", async (_, host, allowed) => {
  await using gateway = await openTestGateway({ settings: { allowedHosts: ["other.example.org"] } });
  const response = await gateway.ask("/", { headers: { host } });
  expect(response.status).toBe(allowed ? 200 : 403);
});

test("a server on loopback answers to every name of loopback and to no other", async () => {
  await using gateway = await openTestGateway({ publicUrl: "http://127.0.0.1:3010" });
  for (const host of ["127.0.0.1:3010", "localhost:3010", "[::1]:3010"])
    expect((await gateway.ask("/", { headers: { host } })).status, host).toBe(200);
  for (const host of ["evil.example:3010", "127.0.0.1.nip.io", "0.0.0.0:3010"])
    expect((await gateway.ask("/", { headers: { host } })).status, host).toBe(403);
});

const ORIGINS: readonly [origin: string, status: number][] = [
  ["https://vm.example.org", 401],
  ["https://app.example.org", 401],
  ["http://vm.example.org", 403],
  ["https://vm.example.org:8443", 403],
  ["https://evil.example", 403],
  ["https://app.example.org.evil.example", 403],
  ["http://localhost:3010", 403],
  ["null", 403],
  ["", 403],
];

test.each(ORIGINS)("Origin %j at /mcp is answered with %i", async (origin, status) => {
  await using gateway = await openTestGateway({ settings: { corsOrigins: ["https://app.example.org"] } });
  const request = rpc(null, "tools/list");
  const response = await gateway.ask("/mcp", { ...request, headers: { ...request.headers, origin } });
  expect(response.status).toBe(status);
  const readable = origin === "https://app.example.org";
  expect(response.headers.get("access-control-allow-origin")).toBe(readable ? origin : null);
});

test("metadata may be read by pages of any origin, and nothing else may", async () => {
  await using gateway = await openTestGateway();
  const headers = { origin: "https://anybody.example" };
  const metadata = await gateway.ask("/.well-known/oauth-protected-resource/mcp", { headers });
  expect(metadata.status).toBe(200);
  expect(metadata.headers.get("access-control-allow-origin")).toBe("*");
  for (const path of ["/", "/metrics", "/api/openapi.json", "/mcp"])
    expect((await gateway.ask(path, { headers })).status, path).toBe(403);
});

test("a listed origin is told what it may send, before it does; another is told nothing", async () => {
  await using gateway = await openTestGateway({ settings: { corsOrigins: ["https://app.example.org"] } });
  const preflight = (origin: string) =>
    gateway.ask("/mcp", {
      method: "OPTIONS",
      headers: { origin, "access-control-request-method": "POST" },
    });
  const open = await preflight("https://app.example.org");
  expect(open.status).toBe(204);
  expect(open.headers.get("access-control-allow-headers")).toContain("authorization");
  expect(open.headers.get("access-control-expose-headers")).toContain("www-authenticate");
  expect(open.headers.has("access-control-allow-credentials")).toBe(false);
  const closed = await preflight("https://app.example.org.evil.example");
  expect(closed.status).toBe(403);
  expect(closed.headers.has("access-control-allow-origin")).toBe(false);
});

test("every answer says what browsers must not do with it", async () => {
  await using gateway = await openTestGateway();
  for (const path of ["/", "/mcp", "/nothing", "/health/live", "/api/tools", "/metrics"]) {
    const { headers } = await gateway.ask(path);
    expect(headers.get("x-content-type-options"), path).toBe("nosniff");
    expect(headers.get("content-security-policy"), path).toContain("frame-ancestors 'none'");
    expect(headers.get("x-frame-options"), path).toBe("DENY");
    expect(headers.get("strict-transport-security"), path).toMatch(/^max-age=\d+/);
    expect(headers.get("cache-control"), path).toMatch(/no-store|no-cache/);
  }
});

test("without TLS nobody is told to come back by TLS alone", async () => {
  await using gateway = await openTestGateway({ publicUrl: "http://127.0.0.1:3010" });
  expect((await gateway.ask("/")).headers.has("strict-transport-security")).toBe(false);
});

test("only a proxy that the operator trusts says who the client is", async () => {
  const cases: [from: string, forwarded: string, address: string][] = [
    ["203.0.113.7", "198.51.100.1", "203.0.113.7"],
    ["10.1.2.3", "198.51.100.1", "198.51.100.1"],
    ["10.1.2.3", "192.0.2.99, 198.51.100.1", "198.51.100.1"],
    ["10.1.2.3", "198.51.100.1, 10.9.9.9", "198.51.100.1"],
    ["10.1.2.3", "198.51.100.1:4711", "198.51.100.1"],
    ["10.1.2.3", "[2001:db8::1]:4711", "2001:db8::1"],
    ["10.1.2.3", "not an address", "10.1.2.3"],
    ["::ffff:10.1.2.3", "198.51.100.1", "198.51.100.1"],
    ["fd00::1", "198.51.100.1", "198.51.100.1"],
  ];
  await using gateway = await openTestGateway({ settings: { trustedProxies: ["10.0.0.0/8", "fd00::/8"] } });
  for (const [from, forwarded, address] of cases) {
    await gateway.ask("/", { from, headers: { "x-forwarded-for": forwarded } });
    expect(gateway.logged.at(-1)?.fields["address"], `${from} ${forwarded}`).toBe(address);
  }
});

test("a refused host, origin or token is in the audit log before the answer, with its trace", async () => {
  await using gateway = await openTestGateway();
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const traceparent = `00-${trace}-00f067aa0ba902b7-01`;
  await gateway.ask("/mcp", { headers: { host: "evil.example", traceparent } });
  await gateway.ask("/mcp", { headers: { origin: "https://evil.example", traceparent } });
  await gateway.ask("/mcp", { headers: { authorization: "Bearer nonsense", traceparent } });
  await gateway.ask("/mcp", { headers: { traceparent } });
  const lines = await gateway.audited();
  expect(
    lines.map(({ action, outcome, address, trace_id, owner }) => [action, outcome, address, trace_id, owner]),
  ).toEqual([
    ["GET (refused)", "forbidden", "203.0.113.7", trace, null],
    ["GET (refused)", "forbidden", "203.0.113.7", trace, null],
    ["GET /mcp", "unauthenticated", "203.0.113.7", trace, null],
    ["GET /mcp", "unauthenticated", "203.0.113.7", trace, null],
  ]);
});

test("a flood of refusals is a few lines in the audit log, and is answered all the same", async () => {
  await using gateway = await openTestGateway({
    settings: { rates: { address: 0, owner: 0, signIn: 0, failure: 10 } },
  });
  const statuses = new Map<number, number>();
  for (let i = 0; i < 100; i++) {
    const { status } = await gateway.ask("/mcp", withToken("nonsense"));
    statuses.set(status, (statuses.get(status) ?? 0) + 1);
  }
  expect(Object.fromEntries(statuses)).toEqual({ 401: 10, 429: 90 });
  const lines = await gateway.audited();
  expect(lines.filter(({ outcome }) => outcome === "unauthenticated")).toHaveLength(10);
  expect(lines.filter(({ outcome }) => outcome === "limit")).toHaveLength(1);
  for (let i = 0; i < 200; i++) await gateway.ask("/", { headers: { host: "evil.example" } });
  expect((await gateway.audited()).length).toBeLessThanOrEqual(11 + 60);
});

test("an account's refusals are all in the audit log", async () => {
  await using gateway = await openTestGateway();
  const { token, owner } = await gateway.signIn(["vm:read"]);
  const call = rpc(token, "tools/call", { name: "vm_delete", arguments: {} });
  for (let i = 0; i < 70; i++) expect((await gateway.ask("/mcp", call)).status).toBe(403);
  const lines = (await gateway.audited()).filter(
    (line) => line.owner === owner && line.outcome === "forbidden",
  );
  expect(lines).toHaveLength(70);
});

test("whoever is refused for one address keeps others welcome", async () => {
  await using gateway = await openTestGateway({
    settings: { rates: { address: 5, owner: 0, signIn: 0, failure: 0 } },
  });
  const from = async (address: string) => (await gateway.ask("/health/live", { from: address })).status;
  const front = async (address: string) => (await gateway.ask("/", { from: address })).status;
  for (let i = 0; i < 5; i++) expect(await front("203.0.113.7")).toBe(200);
  const refused = await gateway.ask("/", { from: "203.0.113.7" });
  expect(refused.status).toBe(429);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await front("203.0.113.8")).toBe(200);
  expect(await from("203.0.113.7")).toBe(200); // who asks whether it lives is always told
  gateway.clock.at += 60_000;
  expect(await front("203.0.113.7")).toBe(200);
});

test("an IPv6 customer is counted by the /64", async () => {
  await using gateway = await openTestGateway({
    settings: { rates: { address: 2, owner: 0, signIn: 0, failure: 0 } },
  });
  const front = async (from: string) => (await gateway.ask("/", { from })).status;
  expect([
    await front("2001:db8::1"),
    await front("2001:db8:0:0:ffff::2"),
    await front("2001:db8::3"),
  ]).toEqual([200, 200, 429]);
  expect(await front("2001:db8:0:1::1")).toBe(200);
});

test("two server processes share the limits of an account", async () => {
  const settings = { rates: { address: 0, owner: 50, signIn: 0, failure: 0 } };
  await using gateway = await openTestGateway({ settings });
  const twin = gateway.twin();
  const { token, owner } = await gateway.signIn();
  let served = 0;
  for (let i = 0; i < 60; i++) {
    const { status } = await (i % 2 === 0 ? gateway : twin).ask("/mcp", rpc(token, "tools/list"));
    if (status === 200) served++;
    else expect(status).toBe(429);
  }
  // What a process took in its last block and did not use is lost to the other: never more than the limit,
  // nearly all of it.
  expect(served).toBeLessThanOrEqual(50);
  expect(served).toBeGreaterThanOrEqual(45);
  const limited = (await gateway.audited()).filter(({ outcome }) => outcome === "limit");
  expect(limited.map((line) => line.owner)).toEqual([owner, owner]); // once for each process
});

test("sign-in is slowed down apart from the rest", async () => {
  await using gateway = await openTestGateway({
    settings: { rates: { address: 0, owner: 0, signIn: 3, failure: 0 } },
  });
  const challenge = `/api/auth/challenge?address=0x52908400098527886E0F7030069857D2E4169EE7`;
  for (let i = 0; i < 3; i++) expect((await gateway.ask(challenge)).status).toBe(200);
  expect((await gateway.ask(challenge)).status).toBe(429);
  expect((await gateway.ask("/")).status).toBe(200);
});

test("no spelling of a path passes its guard", async () => {
  await using gateway = await openTestGateway({
    settings: { rates: { address: 0, owner: 0, signIn: 1, failure: 0 } },
  });
  const query = "?address=0x52908400098527886E0F7030069857D2E4169EE7";
  expect((await gateway.ask(`/api/auth/challenge${query}`)).status).toBe(200);
  for (const path of ["/api/auth/challenge", "/api/%61uth/challenge", "/%61pi/auth/%63hallenge"])
    expect((await gateway.ask(`${path}${query}`)).status, path).toBe(429);
});

test("one IPv6 customer does not fill the audit log, whatever addresses it has", async () => {
  await using gateway = await openTestGateway();
  for (let i = 0; i < 100; i++)
    await gateway.ask("/", { from: `2001:db8::${i + 1}`, headers: { host: "evil.example" } });
  expect(await gateway.audited()).toHaveLength(60);
  await gateway.ask("/", { from: "2001:db8:0:1::1", headers: { host: "evil.example" } });
  expect(await gateway.audited()).toHaveLength(61);
});

test("counting is cheap: a thousand requests take permits from the database a few times", async () => {
  let spent = 0;
  const gateway: TestGateway = await openTestGateway({
    settings: { rates: { address: 100_000, owner: 0, signIn: 0, failure: 0 } },
    parts: {
      counters: {
        async spend({ amount, windowMs }) {
          spent++;
          return { granted: amount, resets_at: (Math.floor(gateway.clock.at / windowMs) + 1) * windowMs };
        },
      },
    },
  });
  await using _ = gateway;
  await Promise.all(Array.from({ length: 1000 }, () => gateway.ask("/")));
  expect(spent).toBeLessThanOrEqual(3);
});
