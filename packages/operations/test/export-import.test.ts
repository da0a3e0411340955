// @module-tag postgres

import type { Clock } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import {
  exportStore,
  importStore,
  isHalfImported,
  openPostgresStore,
} from "@formation-mcp/operations/postgres";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { anySteps, playHistory, testClock, world } from "@formation-mcp/operations/testing/conformance";
import { emptyStore } from "@formation-mcp/operations/testing/empty-store";
import { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
import fc from "fast-check";
import { Client } from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";

let postgres: TestPostgres;
let admin: Client;
beforeAll(async () => {
  postgres = await startPostgres();
  admin = new Client({ connectionString: postgres.url });
  await admin.connect();
});
afterAll(async () => {
  await admin?.end();
  await postgres?.stop();
});

const opened: Store[] = [];
let latest: Store | undefined;
afterAll(async () => {
  for (const store of opened) await store.close();
});
const keep = (store: Store) => {
  opened.push(store);
  return store;
};
const sqlite = async (clock?: Clock) =>
  keep(await openSqliteStore({ path: ":memory:", ...(clock ? { clock } : {}) }));
/** One at a time: it closes the last one, and empties its schema. */
const postgresql = async (clock?: Clock) => {
  await latest?.close();
  await emptyStore(admin, "formation");
  const options = { url: postgres.url, schema: "formation", poolSize: 2 };
  latest = await openPostgresStore({ ...options, ...(clock ? { clock } : {}) });
  return keep(latest);
};

async function linesOf(store: Store): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of exportStore(store)) lines.push(line);
  return lines;
}

async function* from(lines: readonly string[]): AsyncGenerator<string> {
  yield* lines;
}

/** One string for each `[table, row]` line, independent of the order of its columns. */
const sorted = (lines: readonly string[]) =>
  lines.map((line) => {
    const parsed = JSON.parse(line);
    return Array.isArray(parsed) ? [parsed[0], Object.entries(parsed[1]).sort()] : parsed;
  });

it("whatever happened, nothing is lost from SQLite to PostgreSQL and back, and both go on alike", async () => {
  await fc.assert(
    fc.asyncProperty(anySteps, fc.jsonValue(), async (steps, doc) => {
      const clock = testClock();
      const old = await sqlite(clock);
      const there = world(old, clock);
      await playHistory(there, steps);
      const idempotency = { key: "k", inputDigest: "d" };
      const { operation } = await old.submit({ ...there.build(), idempotency });
      await old.documents.put({
        kind: "a",
        id: "1",
        owner: "x",
        group: "g",
        alias: "é",
        artifact: "sha256:1",
        doc,
      });
      await old.counters.spend({ key: "k", limit: 5, windowMs: 1e12, amount: 3 });
      const line = { chain: "a", seq: 1, hash: "h", at: 1, owner: null, credential: null, action: "vm_list" };
      await old.audit.append([{ ...line, target: null, outcome: "ok", address: null, trace_id: null }]);
      await old.audit.seal({ chain: "a", seq: 1, hash: "h", at: 2 });
      const lines = await linesOf(old);

      const now = await postgresql(clock);
      expect(await importStore(now, from(lines))).toBe(lines.length - 2);
      expect(sorted(await linesOf(now))).toEqual(sorted(lines));
      const back = await sqlite(clock);
      await importStore(back, from(await linesOf(now)));
      expect(sorted(await linesOf(back))).toEqual(sorted(lines));

      const again = await now.submit({ ...there.build(), idempotency });
      expect(again).toEqual({ operation, replayed: true });
      for (const owner of [operation.owner, "nobody"]) {
        expect(await now.usage(owner)).toEqual(await old.usage(owner));
      }
      expect((await now.artifactRoots()).sort()).toEqual((await old.artifactRoots()).sort());
      // New rows are numbered after the imported ones.
      const younger = there.build();
      await now.submit(younger);
      const { items } = await now.operations({ owner: null, limit: 1 });
      expect(items[0]?.id).toBe(younger.operation.id);
      const claimed = await there.claim();
      expect(await world(now, clock).claim({ node_id: there.node })).toEqual(claimed);
    }),
    { numRuns: 12, endOnFailure: true },
  );
}, 120_000);

it("many rows go through in batches", async () => {
  const old = await sqlite();
  for (let i = 0; i < 1100; i++) await old.submit(buildRequest());
  const lines = await linesOf(old);
  const now = await postgresql();
  expect(await importStore(now, from(lines))).toBe(2200);
  expect(sorted(await linesOf(now))).toEqual(sorted(lines));
});

it("a store that has anything is not written over", async () => {
  const old = await sqlite();
  const now = await postgresql();
  const { operation } = await now.submit(buildRequest());
  await expect(importStore(now, from(await linesOf(old)))).rejects.toMatchObject({ code: "conflict" });
  expect(await now.operation(null, operation.id)).toEqual(operation);
});

it("what is no whole export of this version is refused, and leaves nothing", async () => {
  const old = await sqlite();
  await old.submit(buildRequest());
  const lines = await linesOf(old);
  const head = { ...JSON.parse(lines[0] ?? ""), schema: 1 };
  const wrong = [
    [],
    lines.slice(0, -1),
    lines.slice(1),
    [...lines.slice(0, 2), ...lines.slice(3)],
    [...lines, lines[1] ?? ""],
    [JSON.stringify(head), ...lines.slice(1)],
    [lines[0] ?? "", '["meta",{"key":"a","value":"b"}]', lines.at(-1) ?? ""],
    [lines[0] ?? "", lines[1]?.slice(1) ?? "", lines.at(-1) ?? ""],
  ];
  for (const store of [await postgresql(), await sqlite()]) {
    for (const each of wrong) {
      await expect(importStore(store, from(each))).rejects.toMatchObject({ code: "invalid" });
    }
    await importStore(store, from(lines));
  }
});

it("an export while somebody writes is refused at its end", async () => {
  for (const store of [await sqlite(), await postgresql()]) {
    await store.submit(buildRequest());
    const reading = async () => {
      for await (const _ of exportStore(store)) await store.submit(buildRequest());
    };
    await expect(reading()).rejects.toMatchObject({ code: "conflict" });
  }
});

it("an import that was killed is told, and the next one begins anew", async () => {
  for (const store of [await sqlite(), await postgresql()]) {
    const old = await sqlite();
    for (let i = 0; i < 3; i++) await old.submit(buildRequest());
    const lines = await linesOf(old);
    let stopped = false;
    const killed = async function* () {
      yield* lines.slice(0, -2);
      stopped = true;
      await new Promise(() => {});
    };
    void importStore(store, killed());
    await expect.poll(() => stopped).toBe(true);
    expect(await isHalfImported(store)).toBe(true);
    let did = 0;
    const first = async () => void did++;
    expect(await importStore(store, from(lines), first)).toBe(lines.length - 2);
    expect([did, await isHalfImported(store)]).toEqual([1, false]);
    expect(sorted(await linesOf(store))).toEqual(sorted(lines));
    await expect(importStore(store, from(lines), first)).rejects.toMatchObject({ code: "conflict" });
    expect(did).toBe(1);
  }
});
