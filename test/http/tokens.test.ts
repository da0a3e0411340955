// @module-tag bundles

// Tokens that a server must refuse at both of its doors; and the only place of a request where a token is
// accepted.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Loot, MISCLAIMED, signedByServer, steal, UNSIGNED } from "../support/http/forge.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import { openTrap, type Trap } from "../support/http/loopback.ts";
import { newUser, rest, restData, signIn } from "../support/http/people.ts";
import { bytesOf, type Reply, type Request, send } from "../support/http/wire.ts";

let ground: Ground;
let trap: Trap;
let loot: Loot;

beforeAll(async () => {
  ground = await openGround();
  trap = await openTrap();
  loot = await steal(ground.server, ground.user.token, trap.url);
});
afterAll(async () => {
  expect(trap?.visits, "nobody reads what a token names").toEqual([]);
  await trap?.close();
  await ground?.close();
});

const LIST = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/list" });

/** The same request at each door. */
function doors(headers: readonly (readonly [string, string])[]): Request[] {
  const json = ["Content-Type", "application/json"] as const;
  return [
    { path: "/api/auth/whoami", headers },
    { method: "POST", path: "/api/tools/vm_list", headers: [...headers, json], body: '{"parameters":{}}' },
    {
      method: "POST",
      path: "/mcp",
      headers: [...headers, json, ["Accept", "application/json, text/event-stream"]],
      body: LIST,
    },
  ];
}

async function expectRefused(headers: readonly (readonly [string, string])[], status = 401): Promise<void> {
  for (const request of doors(headers)) {
    const reply = ground.refused(await send(ground.url, request), status);
    if (status === 401) expectChallenge(reply);
  }
}

/** RFC 6750 §3, RFC 9728 §5.1. */
function expectChallenge(reply: Reply): void {
  expect(reply.headers["www-authenticate"]).toMatch(
    /^Bearer .*resource_metadata="http:\/\/127\.0\.0\.1:\d+\/\.well-known\/oauth-protected-resource\/mcp"/,
  );
}

test("the token that all forgeries are made from is good, and so is one that the forger signs with the stolen key", async () => {
  for (const token of [loot.good, signedByServer(loot, {})]) {
    for (const request of doors([["Authorization", `Bearer ${token}`]])) {
      expect((await send(ground.url, request))?.status, request.path).toBe(200);
    }
  }
});

describe("A token without the server's signature is refused:", () => {
  test.each(UNSIGNED.map((forgery) => [forgery.what, forgery] as const))("%s", async (_, forgery) => {
    await expectRefused([["Authorization", `Bearer ${await forgery.make(loot)}`]]);
  });
});

describe("A token with the server's signature is refused that has", () => {
  test.each(MISCLAIMED.map((forgery) => [forgery.what, forgery] as const))("%s", async (_, forgery) => {
    await expectRefused([["Authorization", `Bearer ${await forgery.make(loot)}`]]);
  });
});

describe("A token counts in the Authorization header alone, once, as Bearer:", () => {
  const good = () => ground.user.token;
  const cases: [string, () => (readonly [string, string])[]][] = [
    ["no header", () => []],
    ["an empty header", () => [["Authorization", ""]]],
    ["the scheme alone", () => [["Authorization", "Bearer"]]],
    ["the token alone", () => [["Authorization", good()]]],
    ["as Basic", () => [["Authorization", `Basic ${Buffer.from(`x:${good()}`).toString("base64")}`]]],
    ["as DPoP", () => [["Authorization", `DPoP ${good()}`]]],
    ["two tokens in one header", () => [["Authorization", `Bearer ${good()}, Bearer ${good()}`]]],
    ["with more behind it", () => [["Authorization", `Bearer ${good()} x`]]],
    ["in quotes", () => [["Authorization", `Bearer "${good()}"`]]],
    [
      "in a cookie",
      () => [["Cookie", `token=${good()}; access_token=${good()}; Authorization=Bearer ${good()}`]],
    ],
    ["in another header", () => [["X-Authorization", `Bearer ${good()}`]]],
    ["as the proxy's", () => [["Proxy-Authorization", `Bearer ${good()}`]]],
    ["8-bit letters", () => [["Authorization", "Bearer \xe9\xe9"]]],
    ["12 KiB of a token", () => [["Authorization", `Bearer ${"a".repeat(12_000)}`]]],
  ];
  test.each(cases)("%s", async (_, headers) => {
    await expectRefused(headers());
  });

  test("two headers", async () => {
    for (const request of doors([
      ["Authorization", `Bearer ${good()}`],
      ["Authorization", "Bearer x"],
    ])) {
      const reply = await send(ground.url, request);
      // Node keeps the first header; either way the answer is the one for a single token.
      expect([200, 400, 401]).toContain(reply?.status);
    }
  });

  test("in the query or the body", async () => {
    const query = `?access_token=${good()}&token=${good()}`;
    ground.secrets.delete(good());
    for (const path of [`/api/auth/whoami${query}`, `/mcp${query}`]) {
      ground.refused(await send(ground.url, { path }), 401);
    }
    const form = {
      method: "POST",
      path: "/mcp",
      headers: [["Content-Type", "application/x-www-form-urlencoded"]] as const,
    };
    ground.refused(
      await send(ground.url, bytesOf(ground.url, { ...form, body: `access_token=${good()}` })),
      401,
    );
    ground.secrets.add(good());
  });
});

describe("An API token", () => {
  test("is taken as it is, and in no other form", async () => {
    const data = await restData(ground.url, "POST", "/api/tokens", {
      token: ground.user.token,
      body: { name: "ci", scopes: ["vm:read"], expires_in_seconds: 600 },
    });
    const token = String(data["token"]);
    ground.secrets.add(token);
    expect((await rest(ground.url, "GET", "/api/auth/whoami", { token })).status).toBe(200);
    const [prefix = "", id = "", secret = ""] = token.split("_");
    const wrong = [
      `${prefix}_${id}_${secret.slice(0, -1)}`,
      `${prefix}_${id}_${secret}x`,
      `${prefix}_${id}_${[...secret].reverse().join("")}`,
      `${prefix}_${id}_`,
      `${prefix}_${id}`,
      `${prefix}__${secret}`,
      `${prefix}_${id.slice(0, -1)}_${secret}`,
      `${prefix}_${id.toUpperCase()}_${secret.toUpperCase()}`,
      `${prefix}_%_${secret}`,
      `fmr_${id}_${secret}`,
      "fmt_",
    ];
    for (const each of wrong) await expectRefused([["Authorization", `Bearer ${each}`]]);
  });
});

test("a token is void at once when it, its key or its account is revoked", async () => {
  const person = await newUser(ground.url, ground.admin);
  const second = await signIn(ground.url, person.key);
  const works = async (token: string) =>
    (await rest(ground.url, "GET", "/api/auth/whoami", { token })).status;
  expect([await works(person.token), await works(second.token)]).toEqual([200, 200]);

  await restData(ground.url, "POST", "/api/auth/revoke", { body: { token: second.token } });
  expect([await works(person.token), await works(second.token)]).toEqual([200, 401]);
  ground.refused(
    await rest(ground.url, "POST", "/api/auth/refresh", { body: { refresh_token: second.refresh } }),
    401,
  );
});
