import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { afterEach, beforeEach, expect, it } from "vitest";

let directory: string;
let path: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "operations-"));
  path = join(directory, "operations.db");
});
afterEach(() => rm(directory, { recursive: true }));

it("a database of a newer program is refused with the advice to update", async () => {
  await (await openSqliteStore({ path })).close();
  const raw = new DatabaseSync(path);
  raw.exec("update meta set value = '1000' where key = 'schema'");
  raw.close();
  await expect(openSqliteStore({ path })).rejects.toMatchObject({
    code: "unavailable",
    details: { remedy: expect.stringMatching(/Update formation-mcp/) },
  });
});

it("what is no database, or in no directory, is unavailable and says where", async () => {
  await writeFile(path, "This is not a database, but it is long enough to be looked at as one. ".repeat(20));
  await expect(openSqliteStore({ path })).rejects.toMatchObject({ code: "unavailable" });
  const missing = join(directory, "none", "operations.db");
  await expect(openSqliteStore({ path: missing })).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining(missing),
  });
  await mkdir(missing, { recursive: true });
  await expect(openSqliteStore({ path: missing })).rejects.toMatchObject({ code: "unavailable" });
});

it("a store waits for another process's lock without holding its own thread", async () => {
  const store = await openSqliteStore({ path });
  const raw = new DatabaseSync(path);
  raw.exec("BEGIN IMMEDIATE");
  let turns = 0;
  const turning = setInterval(() => turns++, 5);
  const written = store.submit(buildRequest());
  await expect.poll(() => turns, { timeout: 10_000 }).toBeGreaterThan(3);
  expect(await store.nodes()).toEqual([]); // Readers do not wait for a writer.
  raw.exec("COMMIT");
  raw.close();
  expect((await written).replayed).toBe(false);
  clearInterval(turning);
  await store.close();
});

it("what was written is there after the store is opened again", async () => {
  const first = await openSqliteStore({ path });
  const { operation } = await first.submit(buildRequest());
  await first.close();
  const second = await openSqliteStore({ path });
  expect(await second.operation(null, operation.id)).toEqual(operation);
  await second.close();
});
