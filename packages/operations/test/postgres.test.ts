// @module-tag postgres

import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { newId, type Operation } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { grantWorker, migratePostgres, openPostgresStore } from "@formation-mcp/operations/postgres";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { testClock, world } from "@formation-mcp/operations/testing/conformance";
import { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { Client } from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startProxy } from "./proxy.ts";

const CHILD = fileURLToPath(new URL("./child.ts", import.meta.url));
const HOUR = 3_600_000;
const SWEEP = { operationKeptMs: HOUR, strandedMs: HOUR, unusedBuildKeptMs: 24 * HOUR };

let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

const closers: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

type Options = Partial<Parameters<typeof openPostgresStore>[0]>;
let schemas = 0;
const fresh = () => `test_${schemas++}`;

async function open(options: Options = {}): Promise<Store> {
  const store = await openPostgresStore({ url: postgres.url, schema: "formation", ...options });
  closers.push(() => store.close());
  return store;
}

async function raw(url: string, text: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(text)).rows;
  } finally {
    await client.end();
  }
}

/** Every operation has its build: no transaction was written partly. */
async function idsOf(store: Store): Promise<Set<string>> {
  const ids = new Set<string>();
  for (let cursor: string | null | undefined; cursor !== null; ) {
    const page = await store.operations({ owner: null, limit: 1000, cursor: cursor ?? null });
    for (const { id, target_id } of page.items) {
      ids.add(id);
      expect(await store.build(null, target_id as `bld_${string}`)).toMatchObject({ operation_id: id });
    }
    cursor = page.cursor;
  }
  return ids;
}

async function rowsRead(schema: string): Promise<number> {
  const [row] = await raw(
    postgres.url,
    `select seq_tup_read + idx_tup_fetch + (select sum(idx_tup_read) from pg_stat_user_indexes
       where schemaname = '${schema}' and relname = 'operations') as read
     from pg_stat_user_tables where schemaname = '${schema}' and relname = 'operations'`,
  );
  return Number(row?.["read"]);
}

describe("opening", () => {
  it("several that open an empty database at once migrate it once, and a current one is opened without waiting", async () => {
    const schema = fresh();
    const stores = await Promise.all(Array.from({ length: 8 }, () => open({ schema, poolSize: 2 })));
    for (const store of stores) expect(await store.nodes()).toEqual([]);
    const to = expect.any(Number);
    const again = await migratePostgres({ url: postgres.url, schema });
    expect(again).toEqual({ from: again.to, to });
  });

  it("a database of a newer program, or an older one that is not to be migrated, is refused and says what to do", async () => {
    const schema = fresh();
    await migratePostgres({ url: postgres.url, schema });
    for (const [version, remedy] of [
      ["1000", /Update formation-mcp/],
      ["1", /migrate/],
    ] as const) {
      await raw(postgres.url, `update ${schema}.meta set value = '${version}' where key = 'schema'`);
      await expect(open({ schema, migrate: false })).rejects.toMatchObject({
        code: "unavailable",
        details: { remedy: expect.stringMatching(remedy) },
      });
    }
    await expect(open({ schema: 'a"; drop schema public' })).rejects.toMatchObject({ code: "invalid" });
  });

  it("no server, no such role, no such database: unavailable, and never the password", async () => {
    const urls = [postgres.url, postgres.url, postgres.url].map((each) => new URL(each));
    const [nowhere, nobody, nothing] = urls as [URL, URL, URL];
    nowhere.port = "1";
    nobody.password = "very-secret";
    nothing.pathname = "/none";
    for (const { href } of [nowhere, nobody, nothing]) {
      const error = await open({ url: href }).catch((e) => e);
      expect(error).toMatchObject({ code: "unavailable" });
      expect(JSON.stringify(error.toRecord())).not.toContain(new URL(href).password);
    }
    const bare = new URL(postgres.url);
    const { password } = bare;
    bare.password = "";
    await open({ url: bare.href, password });
  });

  it("it has no more connections than its pool, and a text that no column holds is the caller's mistake", async () => {
    const store = await open({ schema: fresh(), poolSize: 3 });
    await Promise.all(Array.from({ length: 30 }, () => store.submit(buildRequest())));
    const [row] = await raw(
      postgres.adminUrl,
      "select count(*)::int as count from pg_stat_activity where application_name = 'formation-mcp'",
    );
    expect(row?.["count"]).toBeLessThanOrEqual(3);
    await expect(store.documents.put({ kind: "a", id: "a\0b", doc: 1 })).rejects.toMatchObject({
      code: "invalid",
    });
  });
});

describe("a process that runs", () => {
  it("goes on while a newer one changes the tables", async () => {
    const schema = fresh();
    const store = await open({ schema, poolSize: 3 });
    const { operation } = await store.submit(buildRequest());
    const all = () =>
      Promise.all([
        ...Array.from({ length: 6 }, () => store.operation(null, operation.id)),
        ...Array.from({ length: 3 }, () => store.requestCancel(null, operation.id)),
        store.submit(buildRequest()),
      ]);
    for (let round = 0; round < 3; round++) {
      await all();
      await raw(postgres.url, `alter table ${schema}.operations add column new_${round} text`);
    }
    await all();
  });
});

describe("a claim", () => {
  it("reads a handful of rows, however many operations wait or run", async () => {
    const schema = fresh();
    const store = await open({ schema });
    await store.submit(buildRequest());
    await raw(
      postgres.url,
      `insert into ${schema}.operations select (jsonb_populate_record(null::${schema}.operations, copy)).* from (
         select to_jsonb(o) || jsonb_build_object(
           'id', id || i, 'seq', nextval(pg_get_serial_sequence('${schema}.operations', 'seq')),
           'target_id', target_id || i, 'serial_key', serial_key || i,
           'state', case i % 2 when 0 then 'queued' else 'running' end,
           'claimed_by', case i % 2 when 1 then 'node_other' end,
           'lease_until', case i % 2 when 1 then deadline_at end
         ) as copy from ${schema}.operations o, generate_series(1, 5000) i offset 0
       ) as copies; analyze ${schema}.operations`,
    );
    const worker = await openPostgresStore({ url: postgres.url, schema, migrate: false, poolSize: 1 });
    const before = await rowsRead(schema);
    const claims = 20;
    for (let n = 0; n < claims; n++) {
      const free = { vcpus: 9, memory_mb: 9999, disk_gb: 99 };
      const claim = { node_id: newId("node"), subjects: ["pack.build", "pack.ship"], leaseMs: HOUR, free };
      expect(await worker.claim(claim)).toMatchObject({ state: "running" });
    }
    // A connection reports its statistics when it ends, at the latest.
    await worker.close();
    await expect.poll(() => rowsRead(schema), { timeout: 20_000 }).toBeGreaterThan(before);
    expect(((await rowsRead(schema)) - before) / claims).toBeLessThan(20);
  });
});

describe("a worker's role", () => {
  it("does a worker's work, and cannot submit, nor see what only servers see, nor leave anything behind", async () => {
    const clock = testClock();
    const schema = fresh();
    const server = await open({ schema, clock });
    const url = await postgres.role("worker");
    await expect(open({ url, schema, migrate: false, clock })).rejects.toMatchObject({ code: "forbidden" });
    await Promise.all(Array.from({ length: 6 }, () => grantWorker({ url: postgres.url, schema }, "worker")));
    const store = await open({ url, schema, migrate: false, clock });
    const [all, mine] = [world(server, clock), world(store, clock)];

    // The life of a build, a ship and an instance.
    const keyed = { ...all.build(), idempotency: { key: "k", inputDigest: "d" } };
    await server.submit(keyed);
    const operation = (await mine.claim()) as Operation;
    const lease = mine.lease(operation);
    await store.renew(lease, 1000);
    await store.report(lease, { step: "s", message: "m", fraction: null });
    await store.settle(lease, { state: "failed", error: { code: "invalid", message: "No." } });
    const bld = await all.ready();
    const vm = await all.live(bld, "web", { team: "blue" });
    const { version, config } = await store.instance(null, vm);
    await store.observe(vm, version, { config: { ...config, metadata: { team: "red" } }, state: "stopped" });
    await store.requestCancel(null, operation.id);
    await store.registerNode({
      ...{ id: mine.node, name: "n", labels: {}, capacity: { vcpus: 1, memory_mb: 1, disk_gb: 1 }, pid: 1 },
      ...{ engine: { builder: "b", hypervisor: "h", accelerator: "tcg", profile: "user" }, program: "1" },
      draining: false,
    });
    expect(await store.markLost(HOUR)).toEqual([]);
    expect(await store.usage("owner-1")).toEqual(await server.usage("owner-1"));
    expect(store.revision()).toBeGreaterThan(0);

    // The artifacts of documents are roots although the worker sees no document.
    const digest = `sha256:${"ab".repeat(32)}`;
    const soon = clock.now() + 1000;
    await server.documents.put({
      kind: "upload",
      id: "1",
      artifact: digest,
      doc: "hidden",
      expires_at: soon,
    });
    expect((await store.artifactRoots()).sort()).toEqual((await server.artifactRoots()).sort());
    expect(await store.artifactRoots()).toContain(digest);

    // Its sweep removes records with their keys, and leaves what only servers see to the servers' sweeps.
    await server.counters.spend({ key: "k", limit: 1, windowMs: 1000, amount: 1 });
    clock.pass(2 * HOUR);
    expect(await store.artifactRoots()).not.toContain(digest);
    expect((await store.sweep(SWEEP)).removedOperations).toBeGreaterThan(0);
    expect((await server.replay("owner-1", "pack_build", keyed.idempotency))?.id).toBe(operation.id);
    const left = async () =>
      Number((await raw(postgres.url, `select count(*) from ${schema}_private.documents`))[0]?.["count"]);
    expect(await left()).toBe(1);
    await server.sweep(SWEEP);
    expect(await left()).toBe(0);

    const line = { chain: "a", seq: 1, hash: "h", at: 1, owner: null, credential: null, action: "a" };
    for (const call of [
      () => store.submit(all.build()),
      () => store.documents.get("upload", "1"),
      () => store.documents.put({ kind: "a", id: "1", doc: 1 }),
      () => store.documents.removeAll({ owner: "a" }),
      () => store.counters.spend({ key: "k", limit: 1, windowMs: 1, amount: 1 }),
      () => store.audit.append([{ ...line, target: null, outcome: "ok", address: null, trace_id: null }]),
      () => store.audit.page({ limit: 1 }),
      () => store.removeNode(mine.node, { force: true }),
    ]) {
      await expect(call()).rejects.toMatchObject({ code: "forbidden" });
    }
    for (const text of [
      ...["documents", "counters", "audit", "audit_seals"].map(
        (table) => `select 1 from ${schema}_private.${table}`,
      ),
      `create table ${schema}.mine (a text)`,
      `create table public.mine (a text)`,
      `update ${schema}.meta set value = '9'`,
      `select setval('${schema}.revision', 1)`,
      `insert into ${schema}.document_artifacts (artifact) values ('a')`,
      `truncate ${schema}.operations`,
      ...["owner = 'me'", "input = '{}'", "tool = 'vm_delete'", "serial_key = id", "labels = null"].map(
        (set) => `update ${schema}.operations set ${set}`,
      ),
      ...["owner = 'me'", "formfile = '{}'", "context_digest = null", "name = 'x'"].map(
        (set) => `update ${schema}.builds set ${set}`,
      ),
      `update ${schema}.deployments set config = '{}'`,
      `update ${schema}.instances set owner = 'me'`,
      `update ${schema}.nodes set cordoned = 0`,
      `update ${schema}.idempotency set input_digest = ''`,
    ]) {
      await expect(raw(url, text)).rejects.toMatchObject({ code: "42501" });
    }
  });
});

describe("a stolen worker's role", () => {
  it("writes nodes that are none, and servers see the others and go on", async () => {
    const [clock, schema] = [testClock(), fresh()];
    const server = await open({ schema, clock });
    const url = await postgres.role("thief");
    await grantWorker({ url: postgres.url, schema }, "thief");
    const columns =
      "id, version, created_at, updated_at, name, labels, capacity, engine, heartbeat_at, pid, program, draining";
    const said = ["'{'", "'null'", "'[]'", `'{"vcpus":"many","__proto__":{"a":1}}'`];
    const ids = said.map(() => newId("node"));
    for (const [index, json] of said.entries()) {
      const values = `'${ids[index]}', 1, 1, 1, repeat('x', 100000), ${json}, ${json}, ${json}, 9223372036854775807, 1, '', 0`;
      await raw(url, `insert into ${schema}.nodes (${columns}) values (${values})`);
    }
    for (const node of await server.nodes()) {
      expect(node).toMatchObject({ capacity: { vcpus: 0, memory_mb: 0, disk_gb: 0 }, labels: {} });
      expect(new Date(node.heartbeat_at).toISOString()).toBeTruthy();
      expect(node.name.length).toBeLessThan(300);
    }
    await server.submit(buildRequest());
    expect((await server.sweep({ ...SWEEP, strandedMs: 0 })).resend).toHaveLength(1);
    for (const id of ids) await server.removeNode(id, { force: false });
    expect(await server.nodes()).toEqual([]);
  });
});

describe("a connection that breaks", () => {
  it("at the commit: what was made is answered as made, what was not is made again, and nothing is made twice", async () => {
    const schema = fresh();
    const proxy = await startProxy(postgres.url);
    closers.push(() => proxy.close());
    const store = await open({ url: proxy.url, schema });
    const made: string[] = [];
    for (const how of ["unanswered", "unheard", null, "unanswered", "unheard"] as const) {
      proxy.next = how;
      const idempotency = { key: `k${made.length}`, inputDigest: "d" };
      const { operation, replayed } = await store.submit({ ...buildRequest(), idempotency });
      proxy.next = null;
      expect(replayed).toBe(false);
      made.push(operation.id);
    }
    expect(proxy.broken).toBe(4);
    // A commit that can't be looked up afterwards is never reported as made.
    const put = (id: string) => store.documents.put({ kind: "a", id, doc: 1 });
    proxy.next = "unheard";
    expect(await put("1")).toMatchObject({ version: 1 });
    proxy.next = "unanswered";
    await expect(put("2")).rejects.toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(/may have been made/),
    });
    expect(await store.documents.get("a", "2")).toMatchObject({ version: 1 });
    proxy.next = "unanswered";
    const claim = { node_id: newId("node"), subjects: ["pack.build"], leaseMs: 60_000 };
    const free = { vcpus: 9, memory_mb: 9999, disk_gb: 99 };
    await expect(store.claim({ ...claim, free })).rejects.toMatchObject({ code: "unavailable" });
    expect(await store.operation(null, made[0] as `op_${string}`)).toMatchObject({ state: "running" });
    expect(proxy.broken).toBe(7);
    expect([...(await idsOf(store))].sort()).toEqual(made.sort());
  });

  it("while PostgreSQL is killed and started again: nothing acknowledged is lost, and all goes on by itself", async () => {
    const store = await open({ schema: fresh() });
    const made = new Set<string>();
    let stop = false;
    let refused = 0;
    const writers = Array.from({ length: 4 }, async () => {
      while (!stop) {
        await store.submit(buildRequest()).then(
          ({ operation }) => made.add(operation.id),
          (error) => {
            expect(error).toMatchObject({ name: "FormationError", code: "unavailable" });
            refused++;
          },
        );
      }
    });
    for (let round = 0; round < 3; round++) {
      const before = made.size;
      await expect.poll(() => made.size, { timeout: 20_000, interval: 5 }).toBeGreaterThan(before + 30);
      await postgres.kill();
      if (round === 1) {
        await expect.poll(() => refused, { timeout: 20_000 }).toBeGreaterThan(0);
        await expect(store.nodes()).rejects.toMatchObject({ code: "unavailable" });
      }
      await postgres.restart();
    }
    const after = made.size;
    await expect.poll(() => made.size, { timeout: 20_000, interval: 5 }).toBeGreaterThan(after);
    stop = true;
    await Promise.all(writers);
    const there = await idsOf(store);
    for (const id of made) expect(there.has(id)).toBe(true);
  });

  it("to a server that fell silent: unavailable within its limit, and well again with it", async () => {
    const store = await open({ schema: fresh(), statementTimeoutMs: 500 });
    await store.submit(buildRequest());
    postgres.pause();
    try {
      const began = performance.now();
      await expect(store.submit(buildRequest())).rejects.toMatchObject({ code: "unavailable" });
      expect(performance.now() - began).toBeLessThan(10_000);
    } finally {
      postgres.resume();
    }
    await store.submit(buildRequest());
  });

  it("because its process was killed in the middle: nothing by halves, nothing lost, and no lock stays", async () => {
    const store = await open();
    const children = Array.from({ length: 3 }, () => {
      const child = spawn(process.execPath, ["--conditions=formation-source", CHILD, "submit"], {
        env: { ...process.env, STORE_URL: postgres.url },
        stdio: ["pipe", "pipe", "inherit"],
      });
      let out = "";
      child.stdout.on("data", (chunk) => {
        out += chunk;
      });
      child.stdin.end();
      closers.push(async () => void child.kill("SIGKILL"));
      return { child, ids: () => out.split("\n").slice(1, -1) };
    });
    for (const { child, ids } of children) {
      const target = ids().length + 50;
      await expect.poll(() => ids().length, { timeout: 60_000, interval: 5 }).toBeGreaterThan(target);
      child.kill("SIGKILL");
      await once(child, "close");
    }
    const acknowledged = children.flatMap(({ ids }) => ids());
    const there = await idsOf(store);
    for (const id of acknowledged) expect(there.has(id)).toBe(true);
    const held =
      "select 1 from pg_locks where locktype in ('advisory', 'transactionid') and pid <> pg_backend_pid()";
    await expect.poll(async () => (await raw(postgres.adminUrl, held)).length).toBe(0);
  });
});
