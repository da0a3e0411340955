// @module-tag bundles

// Malformed requests: broken, duplicated, truncated, slow, huge. Each gets exactly one answer or the end of
// its connection; the next request is served.

import { waitFor } from "@formation-mcp/os";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ground, openGround } from "../support/http/ground.ts";
import { ask, bytesOf, type Request, send, Wire } from "../support/http/wire.ts";

let ground: Ground;
beforeAll(async () => {
  ground = await openGround();
});
afterAll(() => ground?.close());

const MIB = 1024 * 1024;
const host = () => `Host: ${new URL(ground.url).host}\r\n`;
const bearer = () => ["Authorization", `Bearer ${ground.user.token}`] as const;
const JSON_TYPE = ["Content-Type", "application/json"] as const;

/** It answers the next request. */
async function expectAlive(): Promise<void> {
  expect((await ask(ground.url, { path: "/health/live" })).status).toBe(200);
}

describe("What is no HTTP/1.1 request is answered 400, or not at all, and its connection ends:", () => {
  const list =
    (line: string, headers = "") =>
    () =>
      `${line}\r\n${host()}${headers}\r\n`;
  const post = (headers: string, body: string) => () =>
    `POST /api/auth/validate HTTP/1.1\r\n${host()}Content-Type: application/json\r\n${headers}\r\n${body}`;
  const cases: [string, () => string | Uint8Array, (number | "end")[]][] = [
    ["a TLS greeting", () => Buffer.from("16030100c8010000c40303aabbccdd", "hex"), [400, "end"]],
    ["random bytes", () => Buffer.from("\x00\xff\x13\x37\r\n\r\n", "latin1"), [400]],
    ["the preface of HTTP/2", () => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", [400, "end"]],
    ["HTTP/0.9", () => "GET /\r\n\r\n", [400]],
    ["HTTP/1.2", list("GET / HTTP/1.2"), [400, 505]],
    ["HTTP/9.9", list("GET / HTTP/9.9"), [400, 505]],
    ["a method with a space", list("GE T / HTTP/1.1"), [400]],
    ["a method that there is not", list("EVIL / HTTP/1.1"), [400]],
    ["no path", list("GET  HTTP/1.1"), [400]],
    ["a path with a space", list("GET /a b HTTP/1.1"), [400]],
    ["a path with a NUL", list("GET /a\0b HTTP/1.1"), [400]],
    ["no host", () => "GET / HTTP/1.1\r\n\r\n", [400]],
    ["two hosts", () => `GET / HTTP/1.1\r\n${host()}Host: evil.example\r\n\r\n`, [403]],
    ["a header without a colon", list("GET / HTTP/1.1", "Broken\r\n"), [400]],
    ["a header without a name", list("GET / HTTP/1.1", ": x\r\n"), [400]],
    ["a header name with a space", list("GET / HTTP/1.1", "X Y: z\r\n"), [400]],
    ["a space before the colon", list("GET / HTTP/1.1", "Authorization : Bearer x\r\n"), [400]],
    ["a folded header", list("GET / HTTP/1.1", "X-A: a\r\n b\r\n"), [400]],
    ["a NUL in a header", list("GET / HTTP/1.1", "X-A: a\0b\r\n"), [400]],
    ["a bare CR in a header", list("GET / HTTP/1.1", "X-A: a\rX-B: b\r\n"), [400]],
    ["line feeds alone", () => `GET /health/live HTTP/1.1\n${host().trim()}\n\n`, [400]],
    ["a length that is negative", post("Content-Length: -1\r\n", ""), [400]],
    ["a length that is a word", post("Content-Length: ten\r\n", ""), [400]],
    ["a length in hexadecimal", post("Content-Length: 0x10\r\n", "x".repeat(16)), [400]],
    ["a length with a plus", post("Content-Length: +5\r\n", "hello"), [400]],
    ["two lengths", post("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!"), [400]],
    ["two lengths in one header", post("Content-Length: 5, 6\r\n", "hello!"), [400]],
    ["a length beyond all numbers", post("Content-Length: 99999999999999999999\r\n", ""), [400, 413]],
    [
      "a length and chunks (smuggling CL.TE)",
      post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
      [400],
    ],
    ["a coding that there is not", post("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), [400, 501]],
    [
      "chunks under another coding",
      post("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n"),
      [400, 501],
    ],
    [
      "two codings",
      post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"),
      [400, 501],
    ],
    ["a chunk whose size is a word", post("Transfer-Encoding: chunked\r\n", "zz\r\nx\r\n0\r\n\r\n"), [400]],
    ["a chunk whose size overflows", post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nx"), [400]],
    [
      "a chunk that is longer than it says",
      post("Transfer-Encoding: chunked\r\n", "1\r\nxxxx\r\n0\r\n\r\n"),
      [400],
    ],
    [
      "a chunk extension of 64 KiB",
      post("Transfer-Encoding: chunked\r\n", `1;${"x".repeat(65_536)}\r\nx\r\n0\r\n\r\n`),
      [400, 413],
    ],
    ["a header of 64 KiB", list("GET / HTTP/1.1", `X-A: ${"a".repeat(65_536)}\r\n`), [431]],
    ["20,000 headers", list("GET / HTTP/1.1", "X-A: a\r\n".repeat(20_000)), [431]],
    ["a URL of 64 KiB", list(`GET /${"a".repeat(65_536)} HTTP/1.1`), [414, 431]],
    [
      "a tunnel to elsewhere",
      () => "CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n",
      [400, 403, 405, 421, "end"],
    ],
    ["an expectation that there is not", post("Content-Length: 2\r\nExpect: miracles\r\n", "{}"), [417]],
  ];
  test.each(cases)("%s", async (_, bytes, expected) => {
    const reply = await send(ground.url, bytes());
    if (reply)
      ground.refused(
        reply,
        expected.filter((each) => each !== "end"),
      );
    else expect(expected).toContain("end");
    await expectAlive();
  });
});

describe("Another method than a route has is refused:", () => {
  const cases = ["TRACE", "PATCH", "PROPFIND", "DELETE", "PUT", "OPTIONS", "LINK", "PURGE"].flatMap(
    (method) =>
      ["/health/live", "/api/auth/login", "/.well-known/oauth-protected-resource"].map(
        (path) => [method, path] as const,
      ),
  );
  test.each(cases)("%s %s", async (method, path) => {
    const reply = await send(ground.url, { method, path, headers: [["Content-Length", "0"]] });
    ground.refused(reply, [403, 404, 405, 501]);
    expect(reply?.headers).not.toHaveProperty("access-control-allow-origin");
    // The request is never sent back (cross-site tracing).
    expect(reply?.body).not.toContain("Content-Length: 0");
  });
});

describe("A body that is too large is refused before it is read:", () => {
  const cases: [string, () => Request, number][] = [
    ["/mcp", () => ({ method: "POST", path: "/mcp", headers: [bearer(), JSON_TYPE] }), 5 * MIB],
    [
      "a tool",
      () => ({ method: "POST", path: "/api/tools/vm_list", headers: [bearer(), JSON_TYPE] }),
      5 * MIB,
    ],
    ["a sign-in", () => ({ method: "POST", path: "/api/auth/login", headers: [JSON_TYPE] }), 5 * MIB],
    ["a context", () => ({ method: "PUT", path: "/api/contexts", headers: [bearer()] }), 513 * MIB],
    [
      "a token request",
      () => ({
        method: "POST",
        path: "/oauth/token",
        headers: [["Content-Type", "application/x-www-form-urlencoded"]],
      }),
      5 * MIB,
    ],
    ["a registration", () => ({ method: "POST", path: "/oauth/register", headers: [JSON_TYPE] }), 5 * MIB],
  ];
  test.each(cases)("%s, by its length", async (_, request, bytes) => {
    const { headers = [], ...rest } = request();
    const length = [...headers, ["Content-Length", String(bytes)]] as const;
    ground.refused(await send(ground.url, { ...rest, headers: length, body: "{" }), 413);
    await expectAlive();
  });

  test.each(cases.filter(([name]) => name !== "a context"))(
    "%s, in chunks that never end",
    async (_, request) => {
      const { headers = [], ...rest } = request();
      const wire = await Wire.open(ground.url);
      try {
        wire.write(
          bytesOf(ground.url, { ...rest, headers: [...headers, ["Transfer-Encoding", "chunked"]] }),
          "POST",
        );
        const piece = `10000\r\n${" ".repeat(65_536)}\r\n`;
        let sent = 0;
        await waitFor(
          () => {
            if (wire.ended || wire.rest.includes("\r\n\r\n")) return true;
            if (sent > 32 * MIB) throw new Error("It reads on after 32 MiB.");
            wire.write(piece);
            sent += 65_536;
            return false;
          },
          { timeoutMs: 20_000, everyMs: 1, what: "an answer before the body's end" },
        );
        // A client that goes on sending may lose the answer, because the server resets a connection that it
        // no longer reads (RFC 9112 §9.6).
        const reply = await wire.reply();
        if (reply) ground.refused(reply, 413);
        else expect(wire.ended).toBe(true);
      } finally {
        wire.close();
      }
      await expectAlive();
    },
  );
});

describe("Pieces and trains:", () => {
  test("a request that comes byte by byte is served", async () => {
    const wire = await Wire.open(ground.url);
    for (const byte of bytesOf(ground.url, { path: "/api/auth/whoami", headers: [bearer()] })) {
      wire.write(Buffer.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await wire.reply())?.status).toBe(200);
    wire.close();
  });

  test("a token counts for its own request and for no other on the connection", async () => {
    const wire = await Wire.open(ground.url);
    const whoami = { path: "/api/auth/whoami" };
    const known = bytesOf(ground.url, { ...whoami, headers: [bearer()] });
    const unknown = bytesOf(ground.url, whoami);
    wire.write(Buffer.concat([unknown, known, unknown, known]));
    for (const status of [401, 200, 401, 200]) expect((await wire.reply())?.status).toBe(status);
    wire.close();
  });

  test("what follows a body is a request of its own, not a part of it", async () => {
    const wire = await Wire.open(ground.url);
    const body = JSON.stringify({ token: "x" });
    const smuggled = bytesOf(ground.url, { path: "/api/auth/whoami" });
    wire.write(
      Buffer.concat([
        bytesOf(ground.url, { method: "POST", path: "/api/auth/validate", headers: [JSON_TYPE], body }),
        smuggled,
      ]),
    );
    expect((await wire.reply())?.status).toBe(401);
    expect((await wire.reply())?.status).toBe(401);
    wire.close();
  });

  test("a hundred requests in one train get a hundred answers in order", async () => {
    const wire = await Wire.open(ground.url);
    const train = Array.from({ length: 100 }, (_, at) =>
      bytesOf(ground.url, { path: at % 2 ? "/health/live" : "/nothing" }),
    );
    wire.write(Buffer.concat(train));
    for (let at = 0; at < 100; at++) expect((await wire.reply())?.status).toBe(at % 2 ? 200 : 404);
    wire.close();
  });

  test("a client that leaves in the middle of an answer or of its body harms nobody", async () => {
    for (let at = 0; at < 20; at++) {
      const wire = await Wire.open(ground.url);
      wire.write(bytesOf(ground.url, { path: "/api/openapi.json" }));
      if (at % 2)
        wire.write(
          bytesOf(ground.url, {
            method: "POST",
            path: "/mcp",
            headers: [bearer(), JSON_TYPE, ["Content-Length", "1000"]],
          }),
        );
      wire.close();
    }
    await expectAlive();
  });
});

describe("A path leads nowhere but to a route:", () => {
  const paths = [
    "/../../../../etc/passwd",
    "/api/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/api/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/api/..%5c..%5cetc%5cpasswd",
    "/api/%c0%ae%c0%ae/accounts",
    "/api/%252e%252e/accounts",
    "/api/operations/..;/accounts",
    "//evil.example/api",
    "/\\evil.example",
    "/api/operations/%00",
    "/api/operations/%0d%0aSet-Cookie:%20a=b",
    "/api/operations/%ff%fe",
    "/api/operations/%",
    "/api/operations/%zz",
    "/api/operations/..%2faccounts",
    "/api/operations/op_..%2f..%2fetc%2fpasswd",
    "/api/tools/__proto__",
    "/api/tools/constructor",
    "/api/tools/vm_list%00",
    "/API/TOOLS",
    "/api//tools",
    "/api/tools/",
    "/.git/config",
    "/.env",
    "/formation.db",
    "/artifacts/sha256",
    "/auth/../formation.db",
    "/auth/%2e%2e/%2e%2e/etc/passwd",
    "/auth/codes/..%2f..%2f",
    "/.well-known/../formation.db",
    "/.well-known/%2e%2e/formation.db",
    "/oauth/..%2f..%2fetc/passwd",
    "/metrics/../../etc/passwd",
  ];
  test.each(paths)("%s", async (path) => {
    for (const headers of [[], [bearer()]]) {
      const reply = await send(ground.url, { path, headers });
      ground.refused(reply, [400, 401, 403, 404, 405]);
      expect(reply?.headers).not.toHaveProperty("set-cookie");
      expect(reply?.headers).not.toHaveProperty("location");
    }
  });

  test("a whole URL in the first line is not another host's", async () => {
    const reply = await send(
      ground.url,
      `GET http://evil.example/health/live HTTP/1.1\r\nHost: evil.example\r\n\r\n`,
    );
    ground.refused(reply, [400, 403, 421]);
  });
});

describe("A header of a client's own changes neither who it is nor where it is:", () => {
  const headers: [string, string][] = [
    ["X-Forwarded-For", "127.0.0.1"],
    ["X-Forwarded-Host", "evil.example"],
    ["X-Forwarded-Proto", "https"],
    ["Forwarded", 'for=127.0.0.1;host="evil.example";proto=https'],
    ["X-Real-IP", "127.0.0.1"],
    ["X-Original-URL", "/api/accounts"],
    ["X-Rewrite-URL", "/api/accounts"],
    ["X-HTTP-Method-Override", "DELETE"],
    ["X-User", "admin"],
    ["X-Api-Key", "admin"],
    ["Cookie", "token=admin; _session=x"],
    ["traceparent", "00-ffffffffffffffffffffffffffffffff-ffffffffffffffff-zz\t<script>"],
    ["Upgrade", "h2c"],
    ["Range", "bytes=0-1"],
    ["If-None-Match", "*"],
    ["Accept-Encoding", "gzip;q=99999999, \t,,"],
    ["Accept", "text/html;charset=\x80"],
  ];
  test.each(headers)("%s", async (name, value) => {
    const refused = await send(ground.url, { path: "/api/accounts", headers: [[name, value]] });
    ground.refused(refused, 401);
    expect(refused?.head).not.toContain("evil.example");
    const small = await send(ground.url, { path: "/api/accounts", headers: [bearer(), [name, value]] });
    ground.refused(small, 403);
  });
});
