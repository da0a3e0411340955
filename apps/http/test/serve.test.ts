import { statSync } from "node:fs";
import { join } from "node:path";
import { sharedEnvironment } from "@formation-mcp/assembly/testing/shared-environment";
import { generateKey, keyId, signMessage } from "@formation-mcp/auth/keys";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dial, type Program, run, start, temporary } from "./program.ts";

let state: Awaited<ReturnType<typeof temporary>>;
let program: Program;
beforeAll(async () => {
  state = await temporary();
  program = await start(state.dir);
});
afterAll(async () => {
  await program[Symbol.asyncDispose]();
  await state[Symbol.asyncDispose]();
});

const post = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: JSON.stringify(body),
  });

test("it says where it listens and, once, how its first admin comes in; the log has neither token nor key", () => {
  expect(program.url).toMatch(/^http:\/\/127\.0\.0\.1:\d+$/);
  expect(program.output()).toMatch(/formation-mcp login --server \S+ --bootstrap fmb_\S+/);
  const token = /--bootstrap (\S+)/.exec(program.output())?.[1] ?? "-";
  const log = program
    .output()
    .split("\n")
    .filter((line) => line.startsWith("{"));
  expect(log.join("\n")).not.toContain(token);
});

test("its secret is its user's alone", async () => {
  // It makes one itself where no other servers have to have it too.
  const { FORMATION_MASTER_KEY_FILE: given } = await sharedEnvironment(state.dir);
  expect(statSync(given ?? join(state.dir, "server", "master.key")).mode & 0o777).toBe(0o600);
});

test("the doors are all there behind one origin", async () => {
  const status = async (path: string, init?: RequestInit) =>
    (await fetch(`${program.url}${path}`, init)).status;
  expect(await status("/health/live")).toBe(200);
  expect(await status("/health/ready")).toBe(200);
  expect(await status("/")).toBe(200);
  expect(await status("/mcp", { method: "POST" })).toBe(401);
  expect(await status("/api/openapi.json")).toBe(200);
  expect(await status("/.well-known/oauth-protected-resource/mcp")).toBe(200);
  expect(await status("/.well-known/oauth-authorization-server")).toBe(200);
  expect(await status("/oauth/jwks")).toBe(200);
  expect(await status("/nothing")).toBe(404);
});

test("the guards stand before the OAuth server too", async () => {
  const { port } = new URL(program.url);
  for (const path of [
    "/oauth/token",
    "/auth/login/x",
    "/.well-known/oauth-authorization-server",
    "/mcp",
    "/api/tools",
  ]) {
    const socket = await dial(program.url);
    socket.write(`POST ${path} HTTP/1.1\r\nHost: evil.example:${port}\r\nContent-Length: 0\r\n\r\n`);
    await waitFor(() => socket.heard().includes("\r\n\r\n"), { timeoutMs: 10_000, what: "an answer" });
    expect(socket.heard(), path).toMatch(/^HTTP\/1\.1 403 /);
    socket.destroy();
    const foreign = await fetch(`${program.url}${path}`, {
      method: "POST",
      headers: { origin: "https://evil.example" },
    });
    expect(foreign.status, path).toBe(403);
  }
});

const NONSENSE: readonly [what: string, bytes: string, status: RegExp][] = [
  [
    "a proxy's form of a request",
    "GET http://evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    /^HTTP\/1\.1 400 /,
  ],
  ["a path that is a host", "GET //evil.example/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", /^HTTP\/1\.1 400 /],
  ["the asterisk", "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", /^HTTP\/1\.1 400 /],
  ["no host", "GET / HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 /],
  ["no HTTP", "hello\r\n\r\n", /^HTTP\/1\.1 400 /],
  [
    "two lengths",
    "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    /^HTTP\/1\.1 400 /,
  ],
  [
    "a length and chunks",
    "POST /mcp HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    /^HTTP\/1\.1 400 /,
  ],
  [
    "long headers",
    `GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ${"x".repeat(17_000)}\r\n\r\n`,
    /^HTTP\/1\.1 431 /,
  ],
];

test.each(NONSENSE)("%s is refused, and the next request is answered", async (_, bytes, status) => {
  const socket = await dial(program.url);
  socket.write(bytes);
  await waitFor(() => socket.heard().includes("\r\n\r\n"), { timeoutMs: 10_000, what: "an answer" });
  expect(socket.heard()).toMatch(status);
  expect(socket.heard()).not.toMatch(/at .*\.[jt]s|node:/);
  socket.destroy();
  expect((await fetch(`${program.url}/health/live`)).status).toBe(200);
});

test("a second server beside it shares its accounts, challenges and tokens", async () => {
  await using twin = await start(state.dir, { FORMATION_PUBLIC_URL: program.url });
  const address = await waitFor(() => /"address":"([^"]+)"/.exec(twin.output())?.[1], {
    timeoutMs: 10_000,
    what: "the line that says where it listens",
  });
  const other = `http://${address}`;
  const key = generateKey("secp256k1");
  // Both are at their first start: the newest token is the good one.
  const bootstrap_token = /--bootstrap (\S+)/.exec(twin.output())?.[1];
  const challenge = await fetch(`${program.url}/api/auth/challenge?address=${keyId(key)}`);
  const { data } = (await challenge.json()) as { data: { message: string } };
  const { signature } = signMessage(key, data.message);
  const signed = { signed_message: data.message, signature, address: keyId(key), bootstrap_token };
  const answer = await post(`${other}/api/auth/bootstrap`, signed);
  const body = (await answer.json()) as { data: { token: string } };
  expect(answer.status, JSON.stringify(body)).toBe(200);
  for (const url of [program.url, other]) {
    const headers = { authorization: `Bearer ${body.data.token}` };
    expect((await fetch(`${url}/api/tools`, { headers })).status).toBe(200);
  }
  const { bootstrap_token: _, ...replayed } = signed; // the challenge is used up, everywhere
  expect((await post(`${program.url}/api/auth/login`, replayed)).status).toBe(401);
});

test("told to leave, it finishes what runs, takes nothing new, and ends with 0", async () => {
  await using own = await temporary();
  await using leaving = await start(own.dir);
  const body = JSON.stringify({});
  const slow = await dial(leaving.url);
  slow.write(
    `POST /api/auth/login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  const idle = await dial(leaving.url);
  await fetch(`${leaving.url}/health/live`);
  leaving.child.kill("SIGTERM");
  await waitFor(() => leaving.output().includes('"message":"leaving"'), {
    timeoutMs: 10_000,
    what: "it to begin to leave",
  });
  await waitFor(
    () =>
      fetch(`${leaving.url}/health/live`).then(
        () => false,
        () => true,
      ),
    {
      timeoutMs: 10_000,
      what: "new connections to be refused",
    },
  );
  slow.write(body);
  await waitFor(() => slow.heard().includes("\r\n\r\n"), { timeoutMs: 10_000, what: "the answer" });
  expect(slow.heard()).toMatch(/^HTTP\/1\.1 4\d\d /);
  expect(await leaving.ended()).toBe(0);
  idle.destroy();
});

test("settings that make no sense are told all at once, and nothing is opened", async () => {
  await using own = await temporary();
  const { code, err } = await run([], {
    PATH: process.env["PATH"] ?? "",
    FORMATION_STATE_DIR: join(own.dir, "state"),
    FORMATION_HTTP_PORT: "none",
    FORMATION_HTTP_HOST: "0.0.0.0",
    FORMATION_LOG_LEVEL: "loud",
  });
  expect(code).toBe(1);
  expect(err).toContain("FORMATION_HTTP_PORT");
  expect(err).toContain("FORMATION_LOG_LEVEL");
  expect(err).not.toMatch(/\bat .*\.ts:/);
  expect(() => statSync(join(own.dir, "state"))).toThrow();
});

test("a port that is taken is said before anything is opened", async () => {
  await using own = await temporary();
  const { code, err } = await run([], {
    PATH: process.env["PATH"] ?? "",
    FORMATION_STATE_DIR: join(own.dir, "state"),
    FORMATION_HTTP_PORT: new URL(program.url).port,
  });
  expect([code, err]).toEqual([
    1,
    expect.stringMatching(/another program has it \(EADDRINUSE\)[\s\S]*FORMATION_HTTP_PORT/),
  ]);
  expect(() => statSync(join(own.dir, "state"))).toThrow();
});

test("an unknown option is the caller's mistake, as with every program", async () => {
  for (const words of [["--colour"], ["migrate", "--colour"]]) {
    const { code, err } = await run(words, {});
    expect([code, err]).toEqual([2, expect.stringMatching(/--colour[\s\S]*--help/)]);
  }
});

test("--help names every setting", async () => {
  const { code, out } = await run(["--help"], {});
  expect(code).toBe(0);
  for (const name of [
    "FORMATION_PUBLIC_URL",
    "FORMATION_TLS_CERT",
    "FORMATION_QUOTA_VCPUS",
    "FORMATION_STATE_DIR",
  ])
    expect(out).toContain(name);
});

test("the audit log is verified from outside, beside the server that writes it", async () => {
  const { code, out } = await run(["audit", "verify", "--state-dir", state.dir], {
    PATH: process.env["PATH"] ?? "",
  });
  expect([code, out]).toEqual([0, expect.stringMatching(/as they were written/)]);
});

test("who lost the first token gets another, as long as there is no account", async () => {
  await using own = await temporary();
  const env = { PATH: process.env["PATH"] ?? "", FORMATION_STATE_DIR: own.dir };
  const first = await run(["bootstrap"], env);
  expect(first.err).toMatch(/works on (SQLite in .*formation\.db|PostgreSQL at .*)\./);
  if (first.err.includes("SQLite")) expect(first.err).toMatch(/there was nothing yet/);
  expect([first.code, first.out]).toEqual([0, expect.stringMatching(/--bootstrap fmb_\S+\n$/)]);
  const second = await run(["bootstrap"], env);
  expect(second.err).not.toMatch(/there was nothing yet/);
  expect(second.out).not.toBe(first.out);
  const taken = await run(["bootstrap", "--state-dir", state.dir], env);
  expect(taken.code).toBe(1);
});
