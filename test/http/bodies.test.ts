// @module-tag bundles

// Hostile request bodies: JSON that is deep, wide, broken or sets prototypes, and content types that a web
// page of another origin could send.

import { gzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Ground, openGround } from "../support/http/ground.ts";
import { rest } from "../support/http/people.ts";
import { ask, send } from "../support/http/wire.ts";

let ground: Ground;
beforeAll(async () => {
  ground = await openGround();
});
afterAll(() => ground?.close());

const MIB = 1024 * 1024;
const bearer = () => ["Authorization", `Bearer ${ground.user.token}`] as const;
const JSON_TYPE = ["Content-Type", "application/json"] as const;

/** It answers the next request. */
async function expectAlive(): Promise<void> {
  expect((await ask(ground.url, { path: "/health/live" })).status).toBe(200);
}

describe("JSON that means harm is refused:", () => {
  const many = (count: number) =>
    JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, n) => [`k${n}`, n])));
  const deep = (depth: number, open: string, close: string) => `${open.repeat(depth)}1${close.repeat(depth)}`;
  const bodies: [string, string | Uint8Array][] = [
    ["nothing that is JSON", "}{"],
    ["half an object", '{"parameters":'],
    ["a list", "[]"],
    ["null", "null"],
    ["a text", '"x"'],
    ["a number beyond all bounds", '{"parameters":{"limit":1e999}}'],
    ["NaN", '{"parameters":{"limit":NaN}}'],
    ["bytes that are no UTF-8", Buffer.from('{"parameters":{"state":"\xc3\x28"}}', "latin1")],
    ["10,000 keys", many(10_000)],
    ["10,000 parameters", `{"parameters":${many(10_000)}}`],
    ["lists 100,000 deep", `{"parameters":${deep(100_000, "[", "]")}}`],
    ["objects 100,000 deep", `{"parameters":{"metadata":${deep(100_000, '{"a":', "}")}}}`],
    ["__proto__ among the parameters", '{"parameters":{"__proto__":{"limit":1}}}'],
    ["__proto__ in a map", '{"parameters":{"metadata":{"__proto__":"x"}}}'],
    ["a prototype through constructor", '{"parameters":{"constructor":{"prototype":{"polluted":1}}}}'],
    ["parameters that are a list", '{"parameters":[]}'],
    ["parameters that are a text", '{"parameters":"limit"}'],
  ];
  test.each(bodies)("%s", async (_, body) => {
    const reply = await send(ground.url, {
      method: "POST",
      path: "/api/tools/vm_list",
      headers: [bearer(), JSON_TYPE],
      body,
    });
    ground.refused(reply, 400);
    expect(JSON.parse(reply?.body ?? "")).toMatchObject({ status: "error", error: { code: "invalid" } });
    await expectAlive();
  });

  const messages: [string, string, number][] = [
    ["nothing that is JSON", "}{", 400],
    ["a number", "7", 400],
    ["an empty batch", "[]", 400],
    ["another version", '{"jsonrpc":"1.0","id":1,"method":"tools/list"}', 400],
    ["an id that is an object", '{"jsonrpc":"2.0","id":{},"method":"tools/list"}', 400],
    ["lists 100,000 deep", deep(100_000, "[", "]"), 400],
    [
      "objects 100,000 deep",
      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":${deep(100_000, '{"a":', "}")}}`,
      200,
    ],
    ["10,000 keys", many(10_000), 400],
    ["a method of an object's own", '{"jsonrpc":"2.0","id":1,"method":"__proto__"}', 200],
  ];
  test.each(messages)("to /mcp: %s", async (_, body, status) => {
    const reply = await send(ground.url, {
      method: "POST",
      path: "/mcp",
      headers: [bearer(), JSON_TYPE, ["Accept", "application/json, text/event-stream"]],
      body,
    });
    ground.refused(reply, status);
    expect(reply?.body, "also with 200, as the 2025 protocol has it").toMatch(/"error":\{"code":-32\d{3},/);
    await expectAlive();
  });

  const types: [string, [string, string][], string | Uint8Array, number][] = [
    [
      "a form, as a page elsewhere could send it",
      [["Content-Type", "application/x-www-form-urlencoded"]],
      "parameters=x",
      415,
    ],
    [
      "plain text, as a page elsewhere could send it",
      [["Content-Type", "text/plain"]],
      '{"parameters":{}}',
      415,
    ],
    ["no type", [], '{"parameters":{}}', 415],
    ["two types", [["Content-Type", "text/plain, application/json"]], '{"parameters":{}}', 415],
    [
      "a compressed body",
      [
        ["Content-Type", "application/json"],
        ["Content-Encoding", "gzip"],
      ],
      gzipSync(Buffer.alloc(MIB)),
      415,
    ],
  ];
  test.each(types)("%s", async (_, headers, body, status) => {
    for (const path of ["/api/tools/vm_list", "/mcp"]) {
      const reply = await send(ground.url, { method: "POST", path, headers: [bearer(), ...headers], body });
      ground.refused(reply, [status, 400]);
    }
  });

  test("and nobody's prototype was changed", async () => {
    const body = '{"parameters":{},"__proto__":{"limit":7,"admin":true}}';
    const headers = [bearer(), JSON_TYPE];
    await send(ground.url, { method: "POST", path: "/api/tools/vm_list", headers, body });
    expect(({} as Record<string, unknown>)["polluted"]).toBeUndefined();
    const reply = await rest(ground.url, "GET", "/api/auth/whoami", { token: ground.user.token });
    expect(reply.json.data).not.toHaveProperty("admin");
    expect(reply.json.data["permissions"]).not.toContain("admin");
  });
});
