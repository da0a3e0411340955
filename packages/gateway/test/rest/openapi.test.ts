import { REST_ROUTES } from "@formation-mcp/gateway";
import { LISTING } from "@formation-mcp/tools/listing";
import { AjvJsonSchemaValidator } from "@modelcontextprotocol/server/validators/ajv";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { type Json, openWorld, PUBLIC_URL, type World } from "./world.ts";

let world: World;
let document: Json;

beforeAll(async () => {
  world = await openWorld();
  const response = await world.fetch(new Request(`${PUBLIC_URL}/api/openapi.json`));
  expect(response.status).toBe(200);
  document = (await response.json()) as Json;
});
afterAll(async () => {
  await world[Symbol.asyncDispose]();
});

const METHODS = ["get", "put", "post", "delete", "patch", "head", "options", "trace"];

function operations(): { path: string; method: string; operation: Json }[] {
  return Object.entries(document["paths"] as Json).flatMap(([path, item]) =>
    Object.entries(item as Json).map(([method, operation]) => ({
      path,
      method,
      operation: operation as Json,
    })),
  );
}

/** Every object in the document, with its place. */
function* walk(value: unknown, place = "#"): Generator<{ place: string; value: Json }> {
  if (typeof value !== "object" || value === null) return;
  if (!Array.isArray(value)) yield { place, value: value as Json };
  for (const [key, inner] of Object.entries(value)) yield* walk(inner, `${place}/${key}`);
}

describe("the OpenAPI document", () => {
  it("has every route and every tool, each with its access, and nothing else", () => {
    const served = REST_ROUTES.map(({ method, path, access }) => `${method} ${path} ${access}`);
    const tools = LISTING.map(({ name, scope }) => `POST /api/tools/${name} ${scope}`);
    const told = operations().map(
      ({ method, path, operation }) => `${method.toUpperCase()} ${path} ${String(operation["x-access"])}`,
    );
    expect(told).toEqual(expect.arrayContaining([...served, ...tools]));
    expect(told.length).toBe(served.length + tools.length + 7);
    expect(new Set(told).size).toBe(told.length);
  });

  it("keeps the form of OpenAPI 3.1", () => {
    expect(document["openapi"]).toMatch(/^3\.1\.\d$/);
    expect(document["info"]).toMatchObject({ title: expect.any(String), version: "1.2.3" });
    expect(document["servers"]).toEqual([{ url: PUBLIC_URL }]);
    const tags = (document["tags"] as { name: string }[]).map(({ name }) => name);
    const ids = new Set<string>();
    for (const { path, method, operation } of operations()) {
      expect(METHODS).toContain(method);
      expect(path).toMatch(/^\/api(\/|$)/);
      const id = String(operation["operationId"]);
      expect(id).toMatch(/^[A-Za-z_]\w*$/);
      expect(ids.has(id)).toBe(false);
      ids.add(id);
      expect(tags).toEqual(expect.arrayContaining(operation["tags"] as string[]));
      const parameters = (operation["parameters"] ?? []) as {
        name: string;
        in: string;
        required: boolean;
        schema: Json;
      }[];
      const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => name);
      expect(parameters.filter((one) => one.in === "path").map(({ name }) => name)).toEqual(inPath);
      for (const one of parameters) {
        expect(["path", "query", "header"]).toContain(one.in);
        expect(one.schema).toBeTypeOf("object");
        if (one.in === "path") expect(one.required).toBe(true);
      }
      const responses = operation["responses"] as Record<string, { description: string }>;
      expect(Object.keys(responses)).toContain("200");
      for (const [code, response] of Object.entries(responses)) {
        expect(code).toMatch(/^[1-5]\d\d$/);
        expect(response.description).toBeTruthy();
      }
      expect(Array.isArray(operation["security"])).toBe(true);
      expect((operation["security"] as unknown[]).length === 0).toBe(operation["x-access"] === "public");
    }
  });

  it("refers to nothing that is not there, and undoes no schema by a key of an older one", () => {
    for (const { value, place } of walk(document)) {
      const reference = value["$ref"];
      if (typeof reference === "string") {
        const found = reference
          .slice(2)
          .split("/")
          .reduce<unknown>((at, key) => (at as Json | undefined)?.[key], document);
        expect([place, typeof found]).toEqual([place, "object"]);
      }
      expect([place, "nullable" in value && typeof value["nullable"] === "boolean"]).toEqual([place, false]);
    }
  });

  it("has schemas of JSON Schema 2020-12 that a validator takes, and the answers fit them", async () => {
    const validator = new AjvJsonSchemaValidator();
    const schemas = [...walk(document)].filter(({ place }) => place.endsWith("/schema"));
    expect(schemas.length).toBeGreaterThan(100);
    for (const { place, value } of schemas) {
      const { $ref } = value;
      const schema =
        $ref === undefined ? value : ((document["components"] as Json)["schemas"] as Json)["Error"];
      expect(() => validator.getValidator(schema as never), place).not.toThrow();
    }
    const someone = await world.someone(["admin"]);
    for (const path of [
      "/api/tools",
      "/api/operations",
      "/api/keys",
      "/api/tokens",
      "/api/quota",
      "/api/accounts",
      "/api/audit",
      "/api/auth/whoami",
    ]) {
      const { body, status } = await world.ask("GET", path, { token: someone.token });
      expect(status).toBe(200);
      const content = ((((document["paths"] as Json)[path] as Json)["get"] as Json)["responses"] as Json)[
        "200"
      ] as Json;
      const { schema } = (content["content"] as Record<string, { schema: never }>)["application/json"] ?? {};
      const result = validator.getValidator(schema as never)(body);
      expect([path, result.valid ? "" : result.errorMessage]).toEqual([path, ""]);
    }
    const error = await world.ask("GET", "/api/tools");
    const whole = validator.getValidator(
      ((document["components"] as Json)["schemas"] as Json)["Error"] as never,
    );
    expect(error.status).toBe(401);
    expect(whole({ code: "", ...error.body }).valid).toBe(true);
  });

  it("shows no secret and names no one", () => {
    expect(JSON.stringify(document)).not.toMatch(/\/work\/|\/home\/|localhost|127\.0\.0\.1/);
  });
});

describe("the reference page", () => {
  it("names every route and tool, has no script and nothing from elsewhere, and says so in its policy", async () => {
    const response = await world.fetch(new Request(`${PUBLIC_URL}/api`));
    const html = await response.text();
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toMatch(/^text\/html/);
    const policy = response.headers.get("content-security-policy") ?? "";
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toContain("unsafe");
    expect(html).not.toMatch(/<script|<img|<link|<iframe|\sstyle=|\son\w+=|javascript:/i);
    const elsewhere = [...html.matchAll(/(?:href|src|action)="([^"]*)"/g)].map(([, url = ""]) => url);
    expect(elsewhere.filter((url) => !url.startsWith("#") && !url.startsWith("/"))).toEqual([]);
    for (const { path } of REST_ROUTES) expect(html).toContain(`<code>${path}</code>`);
    for (const { name } of LISTING) expect(html).toContain(`<code>/api/tools/${name}</code>`);
    const anchors = new Set([...html.matchAll(/\sid="([^"]+)"/g)].map(([, id]) => id));
    for (const [, target] of html.matchAll(/href="#([^"]+)"/g)) expect(anchors).toContain(target);
  });
});
