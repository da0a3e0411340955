// What other people's web pages and other people's clients can make of this server: nothing. Rebinding, cross-site requests,
// framing, open redirects, and addresses that the server is told to read.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ground, openGround } from "../support/http/ground.ts";
import { openTrap, type Trap } from "../support/http/loopback.ts";
import { rest } from "../support/http/people.ts";
import { ask, type Reply, send } from "../support/http/wire.ts";

let ground: Ground;
let trap: Trap;
/** A client that registered itself, and the place that it goes back to. */
let client: string;
const BACK = "https://client.example/callback";

beforeAll(async () => {
  ground = await openGround();
  trap = await openTrap();
  client = String((await register({ redirect_uris: [BACK] })).id);
});
afterAll(async () => {
  expect(trap?.visits, "the server read what a stranger named").toEqual([]);
  await trap?.close();
  await ground?.close();
});

const CHALLENGE = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

async function register(metadata: Record<string, unknown>): Promise<{ reply: Reply; id: unknown }> {
  const reply = await ask(ground.url, {
    method: "POST",
    path: "/oauth/register",
    headers: [["Content-Type", "application/json"]],
    body: JSON.stringify({ token_endpoint_auth_method: "none", ...metadata }),
  });
  const id = reply.headers["content-type"]?.startsWith("application/json")
    ? JSON.parse(reply.body).client_id
    : null;
  return { reply, id };
}

function authorize(changes: Record<string, string | undefined>): Promise<Reply> {
  const query = new URLSearchParams({
    response_type: "code",
    client_id: client,
    redirect_uri: BACK,
    code_challenge: CHALLENGE,
    code_challenge_method: "S256",
    state: "s",
    scope: "vm:read",
    resource: `${ground.url}/mcp`,
  });
  for (const [name, value] of Object.entries(changes)) {
    if (value === undefined) query.delete(name);
    else query.set(name, value);
  }
  return ask(ground.url, { path: `/oauth/authorize?${query}` });
}

/** What anybody may read from anywhere: it is the same for all. */
const PUBLIC = [
  "/.well-known/oauth-protected-resource/mcp",
  "/.well-known/oauth-authorization-server",
  "/oauth/jwks",
];
const PLACES: [string, string][] = [
  ["GET", "/"],
  ["POST", "/mcp"],
  ["GET", "/api/tools"],
  ["POST", "/api/auth/login"],
  ["GET", "/api/openapi.json"],
  ["POST", "/oauth/token"],
  ["POST", "/oauth/register"],
  ["GET", "/metrics"],
];

describe("A name that is not the server's own gets nothing (DNS rebinding):", () => {
  const hosts = [
    "evil.example",
    "evil.example:80",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "evil.example#127.0.0.1",
    "127.0.0.1@evil.example",
    "0.0.0.0",
    "169.254.169.254",
    "[::ffff:127.0.0.1]",
    "",
    "127.0.0.1, evil.example",
    "127.0.0.1:99999999",
    "xn--127-.0.0.1",
  ];
  test.each(hosts)("Host: %s", async (host) => {
    for (const [method, path] of [...PLACES, ...PUBLIC.map((each) => ["GET", each] as const)]) {
      const reply = await send(ground.url, {
        method,
        path,
        headers: [
          ["Host", host],
          ["Authorization", `Bearer ${ground.user.token}`],
          ["Content-Length", "0"],
        ],
      });
      ground.refused(reply, [400, 403, 421]);
    }
  });

  const origins = [
    "http://evil.example",
    "https://evil.example",
    "null",
    "http://127.0.0.1.evil.example",
    "http://localhost:1",
    "file://",
    "chrome-extension://abcdef",
    "http://127.0.0.1",
    "",
  ];
  test.each(origins)("Origin: %s", async (origin) => {
    for (const [method, path] of PLACES) {
      const reply = await send(ground.url, {
        method,
        path,
        headers: [
          ["Origin", origin],
          ["Authorization", `Bearer ${ground.user.token}`],
          ["Content-Length", "0"],
        ],
      });
      ground.refused(reply, 403);
      expect(reply?.headers).not.toHaveProperty("access-control-allow-origin");
    }
  });

  test("what is public may be read from anywhere, and knows nobody", async () => {
    for (const path of PUBLIC) {
      const headers = [
        ["Origin", "https://evil.example"],
        ["Cookie", "_session=x"],
      ] as const;
      const reply = await ask(ground.url, { path, headers });
      expect(reply.status).toBe(200);
      expect(reply.headers["access-control-allow-origin"]).toBe("*");
      expect(reply.headers).not.toHaveProperty("access-control-allow-credentials");
      expect(reply.headers).not.toHaveProperty("set-cookie");
      expect(reply.body).not.toMatch(/"d":|evil\.example/);
    }
  });

  test("a preflight from elsewhere is given no leave", async () => {
    for (const [, path] of PLACES) {
      const reply = await ask(ground.url, {
        method: "OPTIONS",
        path,
        headers: [
          ["Origin", "https://evil.example"],
          ["Access-Control-Request-Method", "POST"],
          ["Access-Control-Request-Headers", "authorization"],
        ],
      });
      expect(Object.keys(reply.headers).filter((name) => name.startsWith("access-control-"))).toEqual([]);
    }
  });

  test("the server's own name and origin are let in", async () => {
    const { host, port } = new URL(ground.url);
    for (const each of [host, `localhost:${port}`, host.toUpperCase()]) {
      expect((await ask(ground.url, { path: "/health/live", headers: [["Host", each]] })).status).toBe(200);
    }
    const own = await rest(ground.url, "GET", "/api/auth/whoami", { token: ground.user.token });
    expect(own.status).toBe(200);
  });
});

test("no answer can be framed, sniffed or shown as another kind; what is a person's is not kept by caches", async () => {
  for (const [method, path] of [...PLACES, ["GET", "/nothing"], ["GET", "/api"]] as [string, string][]) {
    const { headers } = await ask(ground.url, { method, path, headers: [["Content-Length", "0"]] });
    expect(headers["x-content-type-options"], path).toBe("nosniff");
    expect(headers["x-frame-options"], path).toBe("DENY");
    expect(headers["content-security-policy"], path).toMatch(/frame-ancestors 'none'/);
    expect(headers["content-security-policy"], path).not.toMatch(/unsafe-(inline|eval)/);
    expect(headers["referrer-policy"], path).toMatch(/same-origin|no-referrer/);
    expect(headers["server"] ?? headers["x-powered-by"], path).toBeUndefined();
  }
});

describe("The pages for signing in", () => {
  async function begin(): Promise<{ path: string; cookies: string }> {
    const reply = await authorize({});
    expect(reply.status, reply.body).toBe(303);
    const location = new URL(reply.headers["location"] ?? "", ground.url);
    expect(location.origin).toBe(ground.url);
    const cookies = reply.head
      .split("\r\n")
      .filter((line) => /^set-cookie:/i.test(line))
      .map((line) => line.slice(line.indexOf(":") + 1).trim());
    expect(cookies.length).toBeGreaterThan(0);
    for (const cookie of cookies) {
      expect(cookie).toMatch(/;\s*httponly/i);
      expect(cookie).toMatch(/;\s*samesite=(lax|strict)/i);
    }
    return { path: location.pathname, cookies: cookies.map((each) => each.split(";")[0]).join("; ") };
  }

  test("can't be framed, load nothing from elsewhere, are not kept", async () => {
    const { path, cookies } = await begin();
    const page = await ask(ground.url, { path, headers: [["Cookie", cookies]] });
    expect(page.status).toBe(200);
    expect(page.headers["content-security-policy"]).toMatch(/default-src 'none'/);
    expect(page.headers["content-security-policy"]).toMatch(/frame-ancestors 'none'/);
    expect(page.headers["content-security-policy"]).not.toMatch(/unsafe-|\*(?!:)|data:/);
    expect(page.headers["cache-control"]).toMatch(/no-store/);
    expect(page.body).not.toMatch(/(?:src|href)="(?:https?:)?\/\//);
  });

  test("are nobody's who has not the cookie of that browser", async () => {
    const { path } = await begin();
    const { cookies } = await begin();
    ground.refused(await send(ground.url, { path }), [400, 403, 404]);
    ground.refused(await send(ground.url, { path, headers: [["Cookie", cookies]] }), [400, 403, 404]);
  });

  test.each([
    [["Origin", "https://evil.example"]],
    [["Origin", "null"]],
    [["Sec-Fetch-Site", "cross-site"]],
    [["Sec-Fetch-Site", "same-site"]],
  ] as [[string, string]][])("take no form from another page: %j", async (header) => {
    const { path, cookies } = await begin();
    for (const end of ["", "/login", "/consent", "/confirm", "/abort"]) {
      const reply = await send(ground.url, {
        method: "POST",
        path: `${path}${end}`,
        headers: [["Cookie", cookies], header, ["Content-Type", "application/x-www-form-urlencoded"]],
        body: "decision=allow&consent=yes",
      });
      ground.refused(reply, [403, 404, 405]);
    }
  });
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
    const reply = ground.refused(await authorize({ redirect_uri }), 400);
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
    ground.refused((await register({ redirect_uris })).reply, 400);
  });

  test("an error goes back with the issuer's name, and only to the registered place", async () => {
    const reply = await authorize({ scope: "vm:read", response_type: "token" });
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
    const reply = await authorize(changes);
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
      await authorize({ client_id: address(), redirect_uri: "https://client.example/cb" }),
      400,
    );
    expect(reply.headers).not.toHaveProperty("location");
    expect(reply.body).not.toMatch(/ECONN|certificate|refused|timeout|EPROTO/i);
    expect(trap.visits).toEqual([]);
  });

  test("what a registration names is not read", async () => {
    const inner = `https://127.0.0.1:${port()}/x`;
    await register({
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

test("what a stranger calls itself is text on the pages, and one line in the log", async () => {
  const name = `<script>alert(1)</script>"'\r\n{"level":"error","message":"forged"}\u001b[2J\u202e`;
  const { reply, id } = await register({ redirect_uris: [BACK], client_name: name });
  expect(reply.status).toBe(201);
  const began = await authorize({ client_id: String(id) });
  const cookies = began.head
    .split("\r\n")
    .filter((line) => /^set-cookie:/i.test(line))
    .map((line) =>
      line
        .slice(line.indexOf(":") + 1)
        .split(";")[0]
        ?.trim(),
    )
    .join("; ");
  const page = await ask(ground.url, {
    path: new URL(began.headers["location"] ?? "", ground.url).pathname,
    headers: [["Cookie", cookies]],
  });
  expect(page.status).toBe(200);
  for (const text of ["<script>alert", "\u202e", "\u001b"]) expect(page.body).not.toContain(text);
});

test("nothing that a request holds begins a line in the log", async () => {
  const evil = '\n{"level":"error","message":"forged"}\r\n\u2028';
  const encoded = encodeURIComponent(evil);
  await rest(ground.url, "GET", `/api/auth/challenge?address=${encoded}`);
  await rest(ground.url, "POST", "/api/auth/login", {
    body: { address: evil, signed_message: `x\n${evil}`, signature: evil },
  });
  await rest(ground.url, "GET", `/api/operations/${encoded}`, { token: ground.user.token });
  await rest(ground.url, "POST", `/api/tools/${encoded}`, {
    token: ground.user.token,
    body: { parameters: {} },
  });
  await rest(ground.url, "GET", `/${encoded}`);
  await ask(ground.url, {
    path: "/api/auth/whoami",
    headers: [
      ["User-Agent", '{"level":"error"}\t\u0085'],
      ["traceparent", '00-{"a":1}'],
      ["X-Request-Id", "forged"],
    ],
  });
  expect(ground.server.output()).not.toMatch(/^\{"level":"error","message":"forged"/m);
});
