// @module-tag bundles

// A hostile client gains nothing from the authorization server: open redirects, requests that it must refuse,
// and addresses that it is told to fetch.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { authorize, BACK, register } from "../support/http/client.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import { openTrap, type Trap } from "../support/http/loopback.ts";
import { send } from "../support/http/wire.ts";

let ground: Ground;
let trap: Trap;
let client: string;

beforeAll(async () => {
  ground = await openGround();
  trap = await openTrap();
  client = (await register(ground.url, { redirect_uris: [BACK] })).id ?? "";
});
afterAll(async () => {
  expect(trap?.visits, "the server read what a stranger named").toEqual([]);
  await trap?.close();
  await ground?.close();
});

describe("Nobody is sent to a place that the client did not register:", () => {
  const places: string[] = [
    "https://evil.example/callback",
    "https://client.example.evil.example/callback",
    "https://client.example@evil.example/callback",
    "https://client.example:8443/callback",
    "https://client.example/callback/",
    "https://client.example/callback/../evil",
    "https://client.example/callback?x=1",
    "https://client.example/callback#x",
    "https://client.example/Callback",
    "https://CLIENT.example/callback%00",
    "https://client.example%2f@evil.example/callback",
    "https://client.example\\@evil.example/callback",
    "http://client.example/callback",
    "//client.example/callback",
    "/callback",
    "javascript:alert(1)",
    "data:text/html,hello",
    "http://127.0.0.1/callback",
    " https://client.example/callback",
    "https://client.example/callback\r\nSet-Cookie: a=b",
    "",
  ];
  test.each(places)("%j", async (redirect_uri) => {
    const reply = ground.refused(await authorize(ground.url, client, { redirect_uri }), 400);
    expect(reply.headers).not.toHaveProperty("location");
    expect(reply.headers).not.toHaveProperty("set-cookie", expect.stringContaining("a=b"));
  });

  test.each([
    ["nothing at all", []],
    ["a script", ["javascript:alert(1)"]],
    ["data", ["data:text/html,x"]],
    ["a file", ["file:///etc/passwd"]],
    ["plain http elsewhere", ["http://evil.example/cb"]],
    ["a fragment", ["https://evil.example/cb#x"]],
    ["credentials", ["https://user:pass@evil.example/cb"]],
    ["a good and a bad one", [BACK, "javascript:alert(1)"]],
    ["a thousand", Array.from({ length: 1000 }, (_, n) => `https://client.example/${n}`)],
    ["a number", [7]],
  ] as [string, unknown[]][])("a client that wants to register %s is refused", async (_, redirect_uris) => {
    ground.refused((await register(ground.url, { redirect_uris })).reply, 400);
  });

  test("an error goes back with the issuer's name, and only to the registered place", async () => {
    const reply = await authorize(ground.url, client, { scope: "vm:read", response_type: "token" });
    if (reply.status === 303) {
      const back = new URL(reply.headers["location"] ?? "");
      expect(`${back.origin}${back.pathname}`).toBe(BACK);
      const said = new URLSearchParams(back.search === "" ? back.hash.slice(1) : back.search);
      expect(Object.fromEntries(said)).toMatchObject({
        iss: ground.url,
        state: "s",
        error: expect.any(String),
      });
    } else ground.refused(reply, 400);
  });
});

describe("The authorization server refuses", () => {
  const cases: [string, Record<string, string | undefined>][] = [
    ["a client that nobody knows", { client_id: "nobody" }],
    ["a client named as an object's own", { client_id: "__proto__" }],
    ["no client", { client_id: undefined }],
    ["a code without a challenge (PKCE)", { code_challenge: undefined, code_challenge_method: undefined }],
    ["a challenge in plain", { code_challenge_method: "plain" }],
    ["a token for another server", { resource: "https://evil.example/mcp" }],
    ["a token in the fragment", { response_type: "token" }],
    ["a request by reference", { request_uri: "https://127.0.0.1/request" }],
    ["a request in itself, unsigned", { request: "eyJhbGciOiJub25lIn0.e30." }],
    ["an answer in the fragment", { response_mode: "fragment" }],
  ];
  test.each(cases)("%s", async (_, changes) => {
    const reply = await authorize(ground.url, client, changes);
    if (reply.status !== 303) {
      ground.refused(reply, 400);
      return;
    }
    const back = new URL(reply.headers["location"] ?? "", ground.url);
    expect(`${back.origin}${back.pathname}`, "no sign-in begins").toBe(BACK);
    expect(
      back.searchParams.get("error") ?? new URLSearchParams(back.hash.slice(1)).get("error"),
    ).toBeTruthy();
    expect(back.href).not.toContain("code=");
  });

  const grants: [string, Record<string, string>][] = [
    ["no grant", {}],
    ["a grant that there is not", { grant_type: "magic" }],
    ["a password", { grant_type: "password", username: "admin", password: "admin" }],
    ["the implicit grant", { grant_type: "implicit" }],
    [
      "a code that nobody gave",
      { grant_type: "authorization_code", code: "x", redirect_uri: BACK, code_verifier: "y".repeat(43) },
    ],
    ["a refresh token that nobody gave", { grant_type: "refresh_token", refresh_token: "x" }],
    ["a client without a secret as an agent", { grant_type: "client_credentials" }],
    ["an exchange", { grant_type: "urn:ietf:params:oauth:grant-type:token-exchange", subject_token: "x" }],
    [
      "an assertion that is unsigned",
      {
        grant_type: "client_credentials",
        client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        client_assertion: "eyJhbGciOiJub25lIn0.e30.",
      },
    ],
  ];
  test.each(grants)("at the token endpoint: %s", async (_, form) => {
    const reply = await send(ground.url, {
      method: "POST",
      path: "/oauth/token",
      headers: [["Content-Type", "application/x-www-form-urlencoded"]],
      body: new URLSearchParams({ client_id: client, ...form }).toString(),
    });
    ground.refused(reply, [400, 401]);
    expect(JSON.parse(reply?.body ?? "")).toHaveProperty("error");
  });
});

describe("The server reads no address inside its own network (SSRF):", () => {
  const port = () => new URL(trap.url).port;
  const addresses: [string, () => string][] = [
    ["loopback", () => `https://127.0.0.1:${port()}/client`],
    ["loopback by name", () => `https://localhost:${port()}/client`],
    ["loopback by name with a dot", () => `https://localhost.:${port()}/client`],
    ["loopback in IPv6", () => `https://[::1]:${port()}/client`],
    ["loopback in IPv6 as IPv4", () => `https://[::ffff:127.0.0.1]:${port()}/client`],
    ["loopback in IPv6 in hexadecimal", () => `https://[::ffff:7f00:1]:${port()}/client`],
    ["loopback through NAT64", () => `https://[64:ff9b::7f00:1]:${port()}/client`],
    ["loopback through 6to4", () => `https://[2002:7f00:1::]:${port()}/client`],
    ["loopback, short", () => `https://127.1:${port()}/client`],
    ["loopback as a number", () => `https://2130706433:${port()}/client`],
    ["loopback in hexadecimal", () => `https://0x7f000001:${port()}/client`],
    ["loopback in octal", () => `https://0177.0.0.1:${port()}/client`],
    ["loopback in wide letters", () => `https://１２７.0.0.1:${port()}/client`],
    ["any address", () => `https://0.0.0.0:${port()}/client`],
    ["another loopback", () => `https://127.8.8.8:${port()}/client`],
    ["plain http", () => `${trap.url}/client`],
    ["credentials", () => `https://user:pass@127.0.0.1:${port()}/client`],
    ["a fragment", () => `https://127.0.0.1:${port()}/client#x`],
    ["no path", () => `https://127.0.0.1:${port()}`],
    ["dots in the path", () => `https://127.0.0.1:${port()}/a/../client`],
    ["the cloud's metadata", () => "https://169.254.169.254/latest/meta-data/"],
    ["a private network", () => "https://10.0.0.1/client"],
    ["another private network", () => "https://192.168.1.1/client"],
    ["a local IPv6 address", () => "https://[fd00::1]/client"],
    ["a link-local IPv6 address", () => "https://[fe80::1]/client"],
    ["a file", () => "file:///etc/passwd"],
    ["gopher", () => `gopher://127.0.0.1:${port()}/_GET`],
    ["data", () => 'data:application/json,{"client_id":"x"}'],
    ["8,000 letters", () => `https://127.0.0.1:${port()}/${"a".repeat(8000)}`],
  ];
  test.each(addresses)("a client's metadata document at %s", async (_, address) => {
    const reply = ground.refused(
      await authorize(ground.url, client, {
        client_id: address(),
        redirect_uri: "https://client.example/cb",
      }),
      400,
    );
    expect(reply.headers).not.toHaveProperty("location");
    expect(reply.body).not.toMatch(/ECONN|certificate|refused|timeout|EPROTO/i);
    expect(trap.visits).toEqual([]);
  });

  test("what a registration names is not read", async () => {
    const inner = `https://127.0.0.1:${port()}/x`;
    await register(ground.url, {
      redirect_uris: [BACK],
      logo_uri: inner,
      jwks_uri: inner,
      sector_identifier_uri: inner,
      policy_uri: inner,
      token_endpoint_auth_method: "private_key_jwt",
    });
    expect(trap.visits).toEqual([]);
  });
});
