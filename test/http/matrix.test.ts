// @module-tag bundles

// The authorization matrix: every tool at every door, and every route, with every kind of insufficient token.
// It is generated from the tables of tools and routes, so it includes each new one.

import { SCOPES } from "@formation-mcp/auth";
import { REST_ROUTES, type RestRoute } from "@formation-mcp/gateway";
import { TOOLS } from "@formation-mcp/tools";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Loot, signedByServer, steal } from "../support/http/forge.ts";
import { type Ground, openGround } from "../support/http/ground.ts";
import {
  ALIAS_ROWS,
  PUBLIC_ROUTES,
  type Records,
  ROUTE_ROWS,
  TOOL_ROWS,
  type ToolRow,
} from "../support/http/matrix.ts";
import { ALL_SCOPES, newUser, type Person, rest, restData, signIn } from "../support/http/people.ts";
import { type HttpServer, startHttp } from "../support/http/server.ts";
import { ask, type Reply, type Request } from "../support/http/wire.ts";
import type { Structured } from "../support/server.ts";

let ground: Ground;
let loot: Loot;
/** The same server with the operator setting read-only. */
let readOnly: HttpServer;
/** The owner of the records, and another account with the same scopes. */
let owner: Person;
let stranger: Person;
let records: Records;

beforeAll(async () => {
  ground = await openGround();
  [owner, stranger] = [await newUser(ground.url, ground.admin), await newUser(ground.url, ground.admin)];
  records = await makeRecords();
  loot = await steal(ground.server, owner.token, "");
  readOnly = await startHttp({
    stateDir: ground.server.stateDir,
    env: { FORMATION_READ_ONLY: "yes", FORMATION_PUBLIC_URL: ground.url },
  });
});
afterAll(async () => {
  await readOnly?.stop();
  await restData(ground.url, "POST", "/api/tools/vm_delete", {
    token: owner.token,
    body: { instance: records.name, confirm: records.name, wait_seconds: 30 },
  });
  await ground?.close();
});

const asOwner = (method: string, path: string, body?: Structured) =>
  restData(ground.url, method, path, { token: owner.token, ...(body ? { body } : {}) });

async function makeRecords(): Promise<Records> {
  const name = "theirs";
  const port = 20_000 + Math.floor(Math.random() * 20_000);
  const entrypoint = ["/bin/busybox", "httpd", "-f", "-p", String(port), "-h", "."];
  const formfile = { from: "busybox", name, expose: [port], entrypoint, resources: { memory_mb: 64 } };
  const built = await asOwner("POST", "/api/tools/pack_build", { formfile, wait_seconds: 40 });
  const build_id = String(built["build_id"]);
  const shipped = await asOwner("POST", "/api/tools/pack_ship", {
    build_id,
    instance_name: name,
    wait_seconds: 40,
  });
  expect(shipped, JSON.stringify(shipped)).toMatchObject({ done: true });
  const seen = await restData(ground.url, "GET", "/api/nodes", { token: ground.admin.token });
  const nodes = seen["nodes"] as { node_id: string }[];
  const made = await asOwner("POST", "/api/tokens", { name: "theirs", expires_in_seconds: 3600 });
  return {
    op: String(shipped["operation_id"]),
    bld: build_id,
    vm: String(shipped["instance_id"]),
    name,
    owner: owner.id,
    key: owner.id,
    token: String(made["id"]),
    node: String(nodes[0]?.node_id),
  };
}

/** Tokens of no account: each is refused with 401 wherever a token is required. */
const NOBODY: [string, () => Promise<string | undefined>][] = [
  ["no token", async () => undefined],
  ["a token that is none", async () => "nonsense"],
  ["an expired token", async () => signedByServer(loot, { iat: now() - 1000, exp: now() - 100 })],
  ["a token for another server", async () => signedByServer(loot, { aud: "https://evil.example/mcp" })],
  ["a token of another issuer", async () => signedByServer(loot, { iss: "https://evil.example" })],
  [
    "a revoked token",
    async () => {
      revoked ??= signIn(ground.url, owner.key).then(async ({ token }) => {
        await restData(ground.url, "POST", "/api/auth/revoke", { body: { token } });
        return token;
      });
      return revoked;
    },
  ],
];
let revoked: Promise<string> | undefined;
const now = () => Math.floor(Date.now() / 1000);

/** A token of the owner, or of the admin for admin routes, with fewer rights. Each is made once. */
const lesser = new Map<string, Promise<string>>();
function lessThan(what: { scopes?: string[]; bounds?: Structured }): Promise<string> {
  const key = JSON.stringify(what);
  const { token } = what.scopes?.includes("admin") ? ground.admin : owner;
  const made =
    lesser.get(key) ??
    restData(ground.url, "POST", "/api/tokens/narrow", { token, body: what }).then((data) =>
      String(data["token"]),
    );
  lesser.set(key, made);
  return made;
}

/** Every scope except this one. */
const without = (scope: string) =>
  lessThan({ scopes: ALL_SCOPES.split(" ").filter((each) => each !== scope) });

/** The result of an answer at any door: its status, and the code of its error. */
interface Outcome {
  status: number;
  code: string | null;
  reply: Reply;
}

interface Door {
  name: string;
  call(server: HttpServer, tool: string, input: Structured, token?: string): Promise<Outcome>;
}

const bearer = (token: string | undefined) =>
  token === undefined ? [] : ([["Authorization", `Bearer ${token}`]] as const);

const REST: Door = {
  name: "REST",
  async call({ url }, tool, input, token) {
    const reply = await rest(url, "POST", `/api/tools/${tool}`, {
      body: { parameters: input },
      ...(token === undefined ? {} : { token }),
    });
    return { status: reply.status, code: reply.json.error?.code ?? null, reply };
  },
};

const STATUS: Record<string, number> = { invalid: 400, forbidden: 403, not_found: 404, conflict: 409 };

const MCP: Door = {
  name: "MCP",
  async call({ url }, tool, input, token) {
    const reply = await ask(url, {
      method: "POST",
      path: "/mcp",
      headers: [
        ...bearer(token),
        ["Content-Type", "application/json"],
        ["Accept", "application/json, text/event-stream"],
      ],
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 1,
        method: "tools/call",
        params: { name: tool, arguments: input },
      }),
    });
    if (reply.status !== 200) return { status: reply.status, code: null, reply };
    const text = /^data: (.*)$/m.exec(reply.body)?.[1] ?? reply.body;
    const { result } = JSON.parse(text) as { result?: { isError?: boolean; _meta?: Structured } };
    const error = result?._meta?.["formation-mcp/error"] as { code: string } | undefined;
    // An error of a tool comes with status 200: it is meant for the model.
    const code = error?.code ?? (result?.isError ? "unknown" : null);
    return { status: code === null ? 200 : (STATUS[code] ?? 0), code, reply };
  },
};

/** The tool that an alias calls, as the server reports it. */
const aliases = Object.keys(ALIAS_ROWS);
const standsFor: Record<string, string> = {
  form_pack_build: "pack_build",
  form_pack_ship: "pack_ship",
  "vm.create": "vm_create",
  "vm.status": "vm_status",
  "vm.control": "vm_control",
  "vm.delete": "vm_delete",
  "vm.list": "vm_list",
};

interface Cell {
  title: string;
  door: Door;
  tool: string;
  row: ToolRow;
  scope: string;
  writes: boolean;
}

const CELLS: Cell[] = [
  ...TOOLS.flatMap((tool) =>
    [MCP, REST].map((door) => ({
      title: `${tool.name} over ${door.name}`,
      door,
      tool: tool.name as string,
      row: TOOL_ROWS[tool.name],
      scope: tool.scope as string,
      writes: !tool.annotations.readOnlyHint,
    })),
  ),
  ...aliases.map((name) => {
    const tool = TOOLS.find((each) => each.name === standsFor[name]);
    return {
      title: `${name} over REST`,
      door: REST,
      tool: name,
      row: ALIAS_ROWS[name] as ToolRow,
      scope: tool?.scope ?? "",
      writes: tool?.annotations.readOnlyHint === false,
    };
  }),
];

describe("The matrix has a row", () => {
  test("for every tool, and for no other", () => {
    expect(Object.keys(TOOL_ROWS).sort()).toEqual(TOOLS.map(({ name }) => name).sort());
  });

  test("for every alias that the server knows", async () => {
    const { tools } = await asOwner("GET", "/api/tools");
    const known = (tools as { name: string; alias_of?: string }[]).filter(({ alias_of }) => alias_of);
    expect(Object.fromEntries(known.map(({ name, alias_of }) => [name, alias_of]))).toEqual(standsFor);
    expect(aliases.sort()).toEqual(Object.keys(standsFor).sort());
  });

  test("for every route, and for no other", () => {
    const routes = (kept: (route: RestRoute) => boolean) =>
      REST_ROUTES.filter(kept)
        .map(({ method, path }) => `${method} ${path}`)
        .sort();
    expect([...PUBLIC_ROUTES].sort()).toEqual(routes(({ access }) => access === "public"));
    expect(Object.keys(ROUTE_ROWS).sort()).toEqual(routes(({ access }) => access !== "public"));
  });
});

/** The answer holds nothing of another owner. */
function saysNothing({ reply }: { reply: Reply }, named: Structured | string): void {
  const told = reply.body;
  const asked = JSON.stringify(named);
  for (const secret of [
    records.op,
    records.bld,
    records.vm,
    records.token,
    records.owner,
    records.node,
    '"theirs"',
  ]) {
    if (!asked.includes(secret)) expect(told).not.toContain(secret);
  }
}

describe.each(CELLS)("$title", ({ door, tool, row, scope, writes }) => {
  test.each(NOBODY)("refuses %s", async (_, token) => {
    const { reply } = await door.call(ground.server, tool, row.input(records), await token());
    ground.refused(reply, 401);
    expect(reply.headers["www-authenticate"]).toContain("resource_metadata=");
  });

  test("asks a token that has every other scope for its own, whatever the input is", async () => {
    for (const input of [row.input(records), { nonsense: true }]) {
      const { reply } = await door.call(ground.server, tool, input, await without(scope));
      ground.refused(reply, 403);
      expect(reply.headers["www-authenticate"]).toMatch(/error="insufficient_scope"/);
      const asked = /scope="([^"]*)"/.exec(reply.headers["www-authenticate"] ?? "")?.[1]?.split(" ");
      expect(asked).toContain(scope);
    }
  });

  test("needs no other scope than its own", async () => {
    const only = await lessThan({ scopes: [scope] });
    const outcome = await door.call(ground.server, tool, { nonsense: true }, only);
    expect(outcome.code, outcome.reply.body).toBe("invalid");
  });

  test("finds nothing of somebody else's", async () => {
    const input = row.input(records);
    if (row.reach === "new") return expect(JSON.stringify(input)).not.toMatch(/(op|bld|vm)_/);
    const outcome = await door.call(ground.server, tool, input, stranger.token);
    const expected = { record: 404, list: 200, operator: 403 }[row.reach];
    expect(outcome.status, outcome.reply.body).toBe(expected);
    saysNothing(outcome, input);
  });

  test("leaves a token in its fence", async () => {
    const fenced = await lessThan({ bounds: { instances: ["another"] } });
    const input = row.input(records);
    const outcome = await door.call(ground.server, tool, input, fenced);
    const expected = { record: 404, list: 200, new: 403, operator: 403 }[row.reach];
    expect(outcome.status, outcome.reply.body).toBe(expected);
    saysNothing(outcome, input);
  });

  test(
    writes ? "does nothing on a read-only server, for an admin neither" : "works on a read-only server",
    async () => {
      for (const { token } of [owner, ground.admin]) {
        const outcome = await door.call(readOnly, tool, row.input(records), token);
        if (writes) expect(["forbidden", "not_found"]).toContain(outcome.code ?? outcome.reply.body);
        else {
          const may = row.reach !== "operator" || token === ground.admin.token;
          expect(outcome.status, outcome.reply.body).toBe(may ? 200 : 403);
        }
      }
    },
  );
});

const ROUTES = REST_ROUTES.filter(({ access }) => access !== "public").map((route) => ({
  ...route,
  title: `${route.method} ${route.path}`,
  row: ROUTE_ROWS[`${route.method} ${route.path}`] ?? {},
}));

function requestOf({ method, path, row }: (typeof ROUTES)[number], token: string | undefined): Request {
  const bytes = row.body === "bytes";
  return {
    method,
    path: row.path?.(records) ?? path,
    headers: [
      ...bearer(token),
      ...(row.body ? ([["Content-Type", bytes ? "application/x-tar" : "application/json"]] as const) : []),
    ],
    ...(row.body ? { body: bytes ? "no archive" : JSON.stringify(row.body) } : {}),
  };
}

describe.each(ROUTES)("$title", (route) => {
  test.each(NOBODY)("refuses %s", async (_, token) => {
    const reply = ground.refused(await ask(ground.url, requestOf(route, await token())), 401);
    expect(reply.headers["www-authenticate"]).toContain("resource_metadata=");
  });

  test("asks for its scope", async () => {
    const { access } = route;
    if (access === "any") return expect(Object.keys(ROUTE_ROWS)).toContain(route.title);
    const token = access === "admin" ? owner.token : await without(access);
    const reply = ground.refused(await ask(ground.url, requestOf(route, token)), 403);
    expect(reply.headers["www-authenticate"]).toContain(`${access}`);
  });

  test("gives an account nothing of another, though that may do as much", async () => {
    const person = await newUser(ground.url, ground.admin);
    const reply = await ask(ground.url, requestOf(route, person.token));
    const expected = route.access === "admin" ? 403 : (route.row.stranger ?? 200);
    expect(reply.status, reply.body).toBe(expected);
    saysNothing({ reply }, decodeURIComponent(route.row.path?.(records) ?? ""));
  });
});

describe("Routes for everybody", () => {
  test.each(PUBLIC_ROUTES)("%s tells nothing of anybody", async (route) => {
    const [method = "", path = ""] = route.split(" ");
    const reply = await rest(ground.url, method, path, method === "GET" ? {} : { body: {} });
    expect([200, 400], reply.body).toContain(reply.status);
    saysNothing({ reply }, "");
  });

  test.each([
    ["/health/live", 200],
    ["/health/ready", 200],
    ["/", 200],
    ["/favicon.ico", 204],
    ["/metrics", 401],
  ] as const)("GET %s answers %i and tells nothing of anybody", async (path, status) => {
    const reply = await ask(ground.url, { path });
    expect(reply.status).toBe(status);
    saysNothing({ reply }, "");
  });
});

test("the owner still has it all, and every refusal is in the audit log", async () => {
  const status = await asOwner("POST", "/api/tools/vm_status", { instance: records.vm });
  expect(status).toMatchObject({ state: "running", name: "theirs" });
  for (const { name } of TOOLS) {
    const query = `action=${name}&outcome=forbidden&limit=1&user_id=${owner.id}`;
    const audit = await restData(ground.url, "GET", `/api/audit?${query}`, { token: ground.admin.token });
    expect(audit["lines"], name).toMatchObject([{ action: name, outcome: "forbidden", owner: owner.id }]);
  }
  expect(SCOPES).toEqual([...ALL_SCOPES.split(" "), "admin"]);
});
