// @module-tag slow

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readdir, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

const CHILD = fileURLToPath(new URL("./child.ts", import.meta.url));

let directory: string;
let path: string;
const children: ChildProcess[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "operations-"));
  path = join(directory, "operations.db");
});
afterEach(async () => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  await rm(directory, { recursive: true, maxRetries: 5 });
});

type Role = "open" | "claim" | "submit" | "take" | "count" | "spend" | "quota";

interface Child {
  lines(): string[];
  isUp(): boolean;
  begin(): void;
  /** Resolves to the exit code, or null if it was killed. */
  ended: Promise<number | null>;
  kill(): void;
}

/** Starts several processes and lets them begin when all are ready. */
async function startAll(count: number, role: Role): Promise<Child[]> {
  const all = Array.from({ length: count }, () => start(role));
  await expect.poll(() => all.every((child) => child.isUp()), { timeout: 90_000 }).toBe(true);
  for (const child of all) child.begin();
  return all;
}

function start(role: Role): Child {
  const child = spawn(process.execPath, ["--conditions=formation-source", CHILD, role, path], {
    stdio: "pipe",
  });
  children.push(child);
  let out = "";
  let trouble = "";
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stderr.on("data", (chunk) => {
    trouble += chunk;
  });
  return {
    lines: () => out.split("\n").slice(1, -1),
    isUp: () => out !== "",
    begin: () => child.stdin.end(),
    ended: once(child, "close").then(([code]) => {
      if (code) throw new Error(`${role} ended with ${code}: ${trouble}`);
      return code as number | null;
    }),
    kill: () => child.kill("SIGKILL"),
  };
}

describe("several processes on one file", () => {
  it("32 that open a fresh file at once all get it, and it is its owner's alone", async () => {
    const opened = await startAll(32, "open");
    for (const child of opened) {
      expect(await child.ended).toBe(0);
      expect(child.lines()).toEqual(["0"]);
    }
    for (const file of await readdir(directory)) {
      expect((await stat(join(directory, file))).mode & 0o777).toBe(0o600);
    }
  }, 120_000);

  it("each of 1,000 operations is claimed by exactly one", async () => {
    const store = await openSqliteStore({ path });
    const ids: string[] = [];
    for (let i = 0; i < 1000; i++) ids.push((await store.submit(buildRequest())).operation.id);
    const claimers = await startAll(4, "claim");
    await Promise.all(claimers.map((child) => child.ended));
    const claimed = claimers.flatMap((child) => child.lines());
    expect(claimed.sort()).toEqual(ids.map((id) => `${id} 1`).sort());
    const left = await store.operations({ owner: null, states: ["queued", "running"], limit: 10 });
    expect(left.items).toEqual([]);
    await store.close();
  }, 120_000);

  it("kill -9 in the middle of writing loses nothing that was acknowledged and stops nobody else", async () => {
    const writers = await startAll(3, "submit");
    const all = () => writers.flatMap((child) => child.lines());
    for (const writer of writers) {
      const target = all().length + 100;
      await expect.poll(() => all().length, { timeout: 30_000, interval: 5 }).toBeGreaterThan(target);
      writer.kill();
      await writer.ended;
    }
    const store = await openSqliteStore({ path });
    for (const id of all())
      expect(await store.operation(null, id as `op_${string}`)).toMatchObject({ state: "queued" });
    // Every operation has its build: no transaction was written partly.
    let pages = 0;
    for (let cursor: string | null = null; pages < 1000; pages++) {
      const page = await store.operations({ owner: null, limit: 1000, cursor });
      for (const { target_id } of page.items) {
        expect(await store.build(null, target_id as `bld_${string}`)).toMatchObject({ state: "queued" });
      }
      cursor = page.cursor;
      if (cursor === null) break;
    }
    await store.close();
  }, 120_000);

  it("each of 500 documents is taken by exactly one", async () => {
    const store = await openSqliteStore({ path });
    for (let id = 0; id < 500; id++) await store.documents.put({ kind: "challenge", id: `${id}`, doc: {} });
    const takers = await startAll(4, "take");
    await Promise.all(takers.map((child) => child.ended));
    const taken = takers.flatMap((child) => child.lines()).map(Number);
    expect(taken.sort((a, b) => a - b)).toEqual(Array.from({ length: 500 }, (_, id) => id));
    await store.close();
  }, 120_000);

  it("nobody writes over a version that he did not read", async () => {
    const writers = await startAll(4, "count");
    await Promise.all(writers.map((child) => child.ended));
    const store = await openSqliteStore({ path });
    expect(await store.documents.get("number", "1")).toMatchObject({ doc: 400, version: 400 });
    await store.close();
  }, 120_000);

  it("together they are granted the limit, and not one more", async () => {
    const spenders = await startAll(4, "spend");
    await Promise.all(spenders.map((child) => child.ended));
    const granted = spenders.flatMap((child) => child.lines()).map(Number);
    expect(granted.reduce((sum, each) => sum + each, 0)).toBe(1000);
  }, 120_000);

  it("a quota is filled to its last place and no further, also when one is killed meanwhile", async () => {
    const builders = await startAll(4, "quota");
    const all = () => builders.flatMap((child) => child.lines());
    await expect.poll(() => all().length, { timeout: 60_000, interval: 5 }).toBeGreaterThan(50);
    builders[0]?.kill();
    await Promise.all(builders.map((child) => child.ended));
    const store = await openSqliteStore({ path });
    expect((await store.usage("owner")).builds).toBe(300);
    const written = await store.operations({ owner: "owner", limit: 1000 });
    const ids = written.items.map(({ id }) => id);
    expect(ids).toHaveLength(300);
    expect(ids).toEqual(expect.arrayContaining(all()));
    await store.close();
  }, 120_000);
});
