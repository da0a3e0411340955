// @module-tag bundles

// Two server processes on one state directory act as one server: what one issued, accepted or counted, the
// other knows; and a process that is killed loses nothing.

import type { AddressInfo } from "node:net";
import { createServer } from "node:net";
import { keyId } from "@formation-mcp/auth/keys";
import { LIMITS } from "@formation-mcp/contract";
import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { httpCommandLine } from "../support/http/ground.ts";
import {
  becomeAdmin,
  challenge,
  newUser,
  type Person,
  rest,
  restData,
  signed,
  signIn,
} from "../support/http/people.ts";
import { type HttpServer, startHttp } from "../support/http/server.ts";
import { expectNothingLeft, leftovers } from "../support/leftovers.ts";
import { dismissWorker, temporaryState } from "../support/server.ts";

const state = temporaryState();
const before = leftovers(state.dir);
let env: Record<string, string>;
let one: HttpServer;
let two: HttpServer;
let admin: Person;
let user: Person;

beforeAll(async () => {
  const port = await freePort();
  env = { FORMATION_PUBLIC_URL: `http://127.0.0.1:${port}`, FORMATION_RATE_FAILURE: "40" };
  one = await startHttp({ stateDir: state.dir, env: { ...env, FORMATION_HTTP_PORT: String(port) } });
  two = await startHttp({ stateDir: state.dir, env });
  admin = await becomeAdmin(one.url, await one.bootstrapToken(), "ed25519");
  user = await newUser(two.url, admin);
});
afterAll(async () => {
  try {
    await one?.stop();
    await two?.stop();
    await dismissWorker(state.dir);
    await expectNothingLeft(state.dir, before);
  } finally {
    await one?.kill();
    await two?.kill();
    await state.close();
  }
});

/** A free port, for a name that is needed before the server listens. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const status = async (server: HttpServer, token: string) =>
  (await rest(server.url, "GET", "/api/auth/whoami", { token })).status;
const login = (server: HttpServer, body: unknown) => rest(server.url, "POST", "/api/auth/login", { body });

/**
 * A revocation takes effect everywhere within five seconds, also for tokens that the other process has
 * cached.
 */
const refusedEverywhere = (token: string) =>
  waitFor(async () => (await status(one, token)) === 401 && (await status(two, token)) === 401, {
    timeoutMs: LIMITS.revocationMs,
    everyMs: 100,
    what: "both servers to refuse the token",
  });

test("who signed in at one is known to the other, for as long as the tokens are renewed anywhere", async () => {
  const person = await signIn(one.url, user.key);
  expect(await status(two, person.token)).toBe(200);
  const renewed = await restData(two.url, "POST", "/api/auth/refresh", {
    body: { refresh_token: person.refresh },
  });
  expect(await status(one, String(renewed["token"]))).toBe(200);
  const again = await restData(one.url, "POST", "/api/auth/refresh", {
    body: { refresh_token: renewed["refresh_token"] },
  });
  expect(await status(two, String(again["token"]))).toBe(200);
});

test("a challenge of one may be answered at the other, and once only between them", async () => {
  const body = signed(user.key, await challenge(one.url, keyId(user.key)));
  const replies = await Promise.all(Array.from({ length: 20 }, (_, at) => login(at % 2 ? one : two, body)));
  expect(replies.filter((reply) => reply.status === 200)).toHaveLength(1);
  for (const server of [one, two]) expect((await login(server, body)).status).toBe(401);
});

test("a refresh token that comes to one after its successor was used at the other ends its family at both", async () => {
  const person = await signIn(one.url, user.key);
  const refresh = (server: HttpServer, refresh_token: unknown) =>
    rest(server.url, "POST", "/api/auth/refresh", { body: { refresh_token } });
  const second = await refresh(one, person.refresh);
  const third = await refresh(two, second.json.data["refresh_token"]);
  expect([second.status, third.status]).toEqual([200, 200]);
  expect(await status(one, String(third.json.data["token"]))).toBe(200);
  expect((await refresh(one, person.refresh)).status).toBe(401);
  await refusedEverywhere(String(third.json.data["token"]));
  expect((await refresh(two, third.json.data["refresh_token"])).status).toBe(401);
});

describe("A revocation at one is effective at the other within five seconds:", () => {
  test("of a token", async () => {
    const person = await signIn(two.url, user.key);
    expect([await status(one, person.token), await status(two, person.token)]).toEqual([200, 200]);
    await restData(one.url, "POST", "/api/auth/revoke", { body: { token: person.token } });
    await refusedEverywhere(person.token);
  });

  test("of an API token", async () => {
    const made = await restData(one.url, "POST", "/api/tokens", {
      token: user.token,
      body: { name: "ci", expires_in_seconds: 600 },
    });
    const token = String(made["token"]);
    expect([await status(one, token), await status(two, token)]).toEqual([200, 200]);
    const id = String((made["record"] as { id: string } | undefined)?.id ?? made["id"]);
    expect((await rest(two.url, "DELETE", `/api/tokens/${id}`, { token: user.token })).status).toBe(200);
    await refusedEverywhere(token);
  });
});

test("what is refused too often at one is refused at the other", async () => {
  const minute = () => Math.floor(Date.now() / 60_000);
  const ask = (server: HttpServer) => status(server, "fmt_nobody_nothing");
  let told = false;
  while (!told) {
    const began = minute();
    while ((await ask(one)) !== 429 && minute() === began);
    let more = 0;
    while ((await ask(two)) !== 429 && minute() === began) more++;
    // A new minute, with a new count, began meanwhile: try once more.
    if (minute() !== began) continue;
    expect(more, "the other had not counted from the beginning").toBeLessThan(20);
    told = true;
  }
  const reply = await rest(two.url, "GET", "/api/auth/whoami", { token: "fmt_nobody_nothing" });
  expect(Number(reply.headers["retry-after"])).toBeGreaterThan(0);
  expect(await status(two, user.token), "who shows a good token is still served").toBe(200);
});

test("an account and a quota that one changed hold at the other", async () => {
  const person = await newUser(one.url, admin, "vm:read");
  const call = (tool: string) =>
    rest(two.url, "POST", `/api/tools/${tool}`, { token: person.token, body: { parameters: {} } });
  expect((await call("vm_list")).status).toBe(200);
  expect((await call("build_list")).status).toBe(403);
});

test("a server that is killed takes no login and no operation with it", async () => {
  const person = await signIn(one.url, user.key);
  const parameters = {
    formfile: { from: "busybox", name: "survivor", run: ["echo built"], entrypoint: ["sleep", "1000"] },
    wait_seconds: 0,
    idempotency_key: "survivor",
  };
  const build = (server: HttpServer) =>
    restData(server.url, "POST", "/api/tools/pack_build", { token: person.token, body: { parameters } });
  const begun = await build(one);
  await one.kill();

  const operation = () =>
    restData(two.url, "GET", `/api/operations/${begun["operation_id"]}`, { token: person.token });
  await waitFor(async () => (await operation())["status"] === "completed", {
    timeoutMs: 60_000,
    what: "the operation to be completed",
  });
  await two.kill();

  const port = new URL(env["FORMATION_PUBLIC_URL"] ?? "").port;
  one = await startHttp({ stateDir: state.dir, env: { ...env, FORMATION_HTTP_PORT: port } });
  two = await startHttp({ stateDir: state.dir, env });
  expect([await status(one, person.token), await status(two, person.token)]).toEqual([200, 200]);
  expect(one.output(), "there is an admin").not.toContain("--bootstrap");
  expect((await build(two))["build_id"], "the same key is the same call").toBe(begun["build_id"]);
  const renewed = await restData(one.url, "POST", "/api/auth/refresh", {
    body: { refresh_token: person.refresh },
  });
  expect(await status(two, String(renewed["token"]))).toBe(200);
});

test("the audit log is whole afterwards, and holds no token", async () => {
  const told = await httpCommandLine(state.dir, ["audit", "verify"]);
  expect(told.stderr + told.stdout).toMatch(/./);
  expect(told.code, told.stderr + told.stdout).toBe(0);
  const page = await rest(one.url, "GET", "/api/audit?limit=50", { token: admin.token });
  expect(page.status).toBe(200);
  expect(page.body).not.toMatch(/eyJ[A-Za-z0-9_-]{20}|fm[rt]_[A-Za-z0-9]+_/);
  expect((await rest(one.url, "GET", "/api/audit", { token: user.token })).status).toBe(403);
});
