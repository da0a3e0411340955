import { LIMITS } from "@formation-mcp/contract";
import { REST_ROUTES } from "@formation-mcp/gateway";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { EVERYTHING, type Json, openWorld, PUBLIC_URL, type Someone, type World } from "./world.ts";

let world: World;
let alice: Someone;

beforeAll(async () => {
  world = await openWorld();
  alice = await world.someone(EVERYTHING);
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

type Body = NonNullable<RequestInit["body"]>;

async function send(path: string, body: Body, headers: Record<string, string> = {}, method = "POST") {
  const response = await world.fetch(
    new Request(`${PUBLIC_URL}${path}`, {
      method,
      headers: { authorization: `Bearer ${alice.token}`, "content-type": "application/json", ...headers },
      body,
      ...({ duplex: "half" } as object),
    }),
  );
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: JSON.parse(text) as Json, text };
}

const TOOL = "/api/tools/vm_list";
const nested = (depth: number, open: string, close: string) =>
  `{"x":${open.repeat(depth)}1${close.repeat(depth)}}`;
const keys = (count: number) =>
  JSON.stringify(Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, i])));

describe("a hostile body is refused with what is wrong, and nothing breaks", () => {
  it.each<[string, Body, number, Record<string, string>?]>([
    ["half an object", "{", 400],
    ["a text", '"x"', 400],
    ["a number", "1", 400],
    ["null", "null", 400],
    ["an array", "[]", 400],
    ["two objects", "{}{}", 400],
    ["a trailing comma", '{"a":1,}', 400],
    ["a comment", "{/* */}", 400],
    ["NaN", '{"limit":NaN}', 400],
    ["a byte order mark amid", '{\ufeff"a":1}', 400],
    ["bytes that are no UTF-8", new Uint8Array([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d]), 400],
    ["UTF-16", Buffer.from('{"a":1}', "utf16le"), 400],
    ["objects nested a thousand deep", nested(1000, '{"x":', "}"), 400],
    ["arrays nested a hundred thousand deep", nested(100_000, "[", "]"), 400],
    ["brackets that never close", "[".repeat(200_000), 400],
    ["ten thousand keys", keys(10_000), 400],
    ["a key of a megabyte", JSON.stringify({ ["k".repeat(1_000_000)]: 1 }), 400],
    ["more than 4 MiB", `{"x":"${"y".repeat(LIMITS.mcpBodyBytes)}"}`, 413],
    ["a length that says so", "{}", 413, { "content-length": String(LIMITS.mcpBodyBytes + 1) }],
    ["a form", "limit=5", 415, { "content-type": "application/x-www-form-urlencoded" }],
    ["plain text, as a page elsewhere could send", '{"limit":5}', 415, { "content-type": "text/plain" }],
    ["no type at all", '{"limit":5}', 415, { "content-type": "" }],
    ["gzip", "x", 415, { "content-encoding": "gzip" }],
    ["parameters that are none", '{"parameters":[]}', 400],
    ["parameters that are null", '{"parameters":null}', 400],
    ["something beside parameters", '{"parameters":{},"limit":5}', 400],
    ["an unknown field", '{"parameters":{"colour":"red"}}', 400],
    ["a limit of letters", '{"parameters":{"limit":"many"}}', 400],
    ["a limit beyond all numbers", '{"parameters":{"limit":1e400}}', 400],
    ["a metadata filter that is none", '{"metadata":{"a":{"b":"c"}}}', 400],
    ["__proto__ as a field", '{"parameters":{"__proto__":{"limit":5}}}', 400],
    ["__proto__ further in", '{"parameters":{"metadata":{"__proto__":"x"}}}', 400],
    ["constructor as a field", '{"parameters":{"constructor":{"prototype":{"x":1}}}}', 400],
  ])("%s", async (_, body, status, headers) => {
    const said = await send(TOOL, body, headers);
    expect(said.status).toBe(status);
    expect(said.body).toMatchObject({ status: "error", data: null, message: expect.any(String) });
    expect(said.text.length).toBeLessThan(20_000);
    expect(said.text).not.toMatch(/node_modules|\.ts:|SyntaxError|at [A-Z]\w+\.|ZodError/);
    expect(({} as Json)["limit"]).toBeUndefined();
  });

  it("a body that breaks off, or never ends", async () => {
    const broken = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(Buffer.from('{"a":'));
        controller.error(new Error("gone"));
      },
    });
    expect((await send(TOOL, broken)).status).toBeGreaterThanOrEqual(400);
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 65_536;
        controller.enqueue(Buffer.alloc(65_536, 0x20));
      },
    });
    expect((await send(TOOL, endless)).status).toBe(413);
    expect(sent).toBeLessThan(LIMITS.mcpBodyBytes + 4 * 65_536);
  });

  it("the same is true of every route that takes JSON", async () => {
    const admin = await world.someone(["admin"]);
    for (const { method, path, access } of REST_ROUTES) {
      if (method === "GET" || method === "DELETE" || path === "/api/contexts") continue;
      const at = path.replace(/\{\w+\}/g, "vm_list");
      const token = { authorization: `Bearer ${access === "admin" ? admin.token : alice.token}` };
      for (const body of ["{", "[]", '{"__proto__":{"admin":true},"nothing":1}', nested(500, "[", "]")]) {
        const said = await send(at, body, token, method);
        expect([`${method} ${path}`, body.slice(0, 20), said.status]).toEqual([
          `${method} ${path}`,
          body.slice(0, 20),
          400,
        ]);
        expect(said.body["status"]).toBe("error");
      }
    }
    expect(({} as Json)["admin"]).toBeUndefined();
  });

  it("any JSON gets an answer in the envelope and never breaks the server", async () => {
    const value = fc.jsonValue({ maxDepth: 5 }).map((json) => JSON.stringify(json));
    const routes = [
      "/api/auth/login",
      "/api/tools/form_pack_build",
      "/api/tools/vm.create",
      "/api/tools/pack_ship",
    ];
    await fc.assert(
      fc.asyncProperty(fc.oneof(value, fc.string()), fc.constantFrom(...routes), async (body, path) => {
        const said = await send(path, body);
        expect([200, 400, 401, 403, 404, 409, 429]).toContain(said.status);
        expect(said.body).toMatchObject({ status: expect.stringMatching(/^(success|error)$/) });
      }),
      { numRuns: 150 },
    );
  });
});

describe("what is odd and harmless goes through", () => {
  it("duplicate keys (the last one counts), a type with a charset, whitespace, an empty body", async () => {
    expect((await send(TOOL, '{"limit":"x","limit":5}')).status).toBe(200);
    expect(
      (await send(TOOL, ' {"limit":5}\n', { "content-type": "application/json; charset=utf-8" })).status,
    ).toBe(200);
    expect((await send(TOOL, "", { "content-type": "" })).status).toBe(200);
    expect((await send(TOOL, nested(0, "", "").replace('"x":1', '"limit":5'))).status).toBe(200);
  });
});

describe("hostile paths, queries and headers", () => {
  it.each([
    ["/api/operations/..%2f..%2fetc%2fpasswd", 404],
    ["/api/operations/%00", 404],
    [`/api/operations/${"x".repeat(5000)}`, 400],
    ["/api/operations/op_%0d%0aset-cookie:a=b", 404],
    ["/api/operations?user_id[]=x", 200],
    [`/api/operations?user_id=${"x".repeat(300)}`, 400],
    ["/api/operations?limit=0", 400],
    ["/api/operations?limit=1e9", 400],
    ["/api/operations?state=exploded", 400],
    ["/api/operations?cursor=%27%3Bdrop%20table", 400],
    ["/api/operations?target=../x", 400],
    ["/api/instances/..%2fbld_x/logs", 404],
    ["/api/instances/%2e%2e%2f%2e%2e/logs", 404],
    ["/api/instances/web/logs?streams=stdout,../../x", 400],
    ["/api/instances/web/logs?tail=-1", 400],
    ["/api/builds/..%2f/logs", 400],
    [`/api/auth/challenge?address=${"x".repeat(300)}`, 400],
    ["/api/auth/challenge?address=%0aEvil:%20yes", 400],
    ["/api/auth/challenge", 400],
    ["/api/tools?category=%3Cscript%3E", 200],
  ])("GET %s", async (path, status) => {
    const response = await world.fetch(
      new Request(`${PUBLIC_URL}${path}`, { headers: { authorization: `Bearer ${alice.token}` } }),
    );
    expect(response.status).toBe(status);
    expect(response.headers.get("content-type")).toMatch(/^application\/json/);
    expect(response.headers.get("x-content-type-options")).toBe("nosniff");
    expect(response.headers.get("set-cookie")).toBeNull();
    await response.json();
  });

  it("an unknown tool, however its name is written", async () => {
    for (const name of [
      "__proto__",
      "constructor",
      "toString",
      "vm_list%00",
      "VM_LIST",
      "%E2%80%AEvm",
      "a".repeat(199),
    ]) {
      const said = await send(`/api/tools/${name}`, "{}");
      expect([name, said.status]).toEqual([name, 404]);
    }
  });
});
