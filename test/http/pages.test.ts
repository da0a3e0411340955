// @module-tag chromium
// @module-tag bundles

// Hostile web pages gain nothing from this server: DNS rebinding, cross-site requests, framing, names that
// contain markup, and text that would forge log lines.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { authorize, BACK, cookiesOf, register } from "../support/http/client.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import { rest } from "../support/http/people.ts";
import { ask, send } from "../support/http/wire.ts";

let ground: Ground;
let client: string;

beforeAll(async () => {
  ground = await openGround();
  client = (await register(ground.url, { redirect_uris: [BACK] })).id ?? "";
});
afterAll(() => ground?.close());

/** What any origin may read: it is the same for everyone. */
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
    const reply = await authorize(ground.url, client);
    expect(reply.status, reply.body).toBe(303);
    const location = new URL(reply.headers["location"] ?? "", ground.url);
    expect(location.origin).toBe(ground.url);
    const { sent, set } = cookiesOf(reply);
    expect(set.length).toBeGreaterThan(0);
    for (const cookie of set) {
      expect(cookie).toMatch(/;\s*httponly/i);
      expect(cookie).toMatch(/;\s*samesite=(lax|strict)/i);
    }
    return { path: location.pathname, cookies: sent };
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

test("what a stranger calls itself is text on the pages, and one line in the log", async () => {
  const name = `<script>alert(1)</script>"'\r\n{"level":"error","message":"forged"}\u001b[2J\u202e`;
  const { reply, id } = await register(ground.url, { redirect_uris: [BACK], client_name: name });
  expect(reply.status).toBe(201);
  const began = await authorize(ground.url, id ?? "");
  const page = await ask(ground.url, {
    path: new URL(began.headers["location"] ?? "", ground.url).pathname,
    headers: [["Cookie", cookiesOf(began).sent]],
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
