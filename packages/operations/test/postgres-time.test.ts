// @module-tag postgres

// The laws of time on PostgreSQL: the database's clock decides, not the clocks of the processes.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { newId } from "@formation-mcp/contract";
import type { Store } from "@formation-mcp/operations";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";
import { world } from "@formation-mcp/operations/testing/conformance";
import { startPostgres, type TestPostgres } from "@formation-mcp/operations/testing/postgres-server";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

const CHILD = fileURLToPath(new URL("./child.ts", import.meta.url));
const HOUR = 3_600_000;
const LEASE_MS = 3000;

let postgres: TestPostgres;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(() => postgres.stop());

const closers: (() => unknown)[] = [];
afterEach(async () => {
  vi.restoreAllMocks();
  for (const close of closers.splice(0)) await close();
});

async function open(schema: string): Promise<Store> {
  const store = await openPostgresStore({ url: postgres.url, schema });
  closers.push(() => store.close());
  return store;
}

/**
 * A process that works as this node, on a machine whose clock is ahead; what it prints except for its rounds.
 */
function worker(schema: string, node: string, aheadMs: number) {
  const off = `data:text/javascript,const now=Date.now;Date.now=()=>now()+(${aheadMs})`;
  const args = ["--conditions=formation-source", "--import", off, CHILD, "work", node];
  const child = spawn(process.execPath, args, {
    env: { ...process.env, STORE_URL: postgres.url, STORE_SCHEMA: schema, LEASE_MS: `${LEASE_MS}` },
    stdio: ["pipe", "pipe", "inherit"],
  });
  closers.push(() => child.kill("SIGKILL"));
  let out = "";
  child.stdout.on("data", (chunk) => {
    out += chunk;
  });
  child.stdin.end();
  const lines = () => out.split("\n").slice(1, -1);
  return {
    rounds: () => lines().filter((line) => line === "round").length,
    said: () => lines().filter((line) => line !== "round"),
    lives: () => child.exitCode === null,
    kill: () => child.kill("SIGKILL"),
  };
}

describe.each([
  ["an hour ahead", HOUR],
  ["an hour behind", -HOUR],
])("a worker whose clock is %s", (_, aheadMs) => {
  it("and its neighbours leave each other what is renewed, and take over in time what is not", async () => {
    const schema = aheadMs > 0 ? "ahead" : "behind";
    const store = await open(schema);
    // Each node has a machine.
    const clock = { now: Date.now, pass() {} };
    const [right, wrong] = [world(store, clock), world(store, clock)];
    const vms: string[] = [];
    for (const [name, each] of Object.entries({ right, wrong })) {
      const vm = await each.live(await each.ready(), name);
      await store.observe(vm, (await store.instance(null, vm)).version, { machine_id: name });
      vms.push(vm);
    }
    const [a, b] = [worker(schema, right.node, 0), worker(schema, wrong.node, aheadMs)];
    const strange = () => [...a.said(), ...b.said()].filter((line) => !/^took \S+ 1$/.test(line));
    for (const who of [a, b]) {
      await expect.poll(who.rounds, { timeout: 20_000 }).toBeGreaterThan(0);
      for (let tries = 0; tries < 20 && who.said().length === 0; tries++) {
        await store.submit(buildRequest());
        const before = who.rounds();
        await expect.poll(() => who.rounds() > before + 1 || !who.lives(), { timeout: 20_000 }).toBe(true);
      }
      expect(who.said()).not.toEqual([]);
    }

    // While both run, nothing is claimed twice and no instance is lost.
    const until = performance.now() + 1.5 * LEASE_MS;
    await expect.poll(() => performance.now(), { timeout: 20_000 }).toBeGreaterThan(until);
    expect([strange(), a.lives(), b.lives()]).toEqual([[], true, true]);
    const held = (who: typeof a) => who.said().map((line) => line.split(" ")[1]);
    const ofA = held(a);

    // One is killed: the other gets its work after the lease ended, and soon after.
    const killed = performance.now();
    a.kill();
    await expect.poll(() => b.said(), { timeout: 20_000 }).toContain(`took ${ofA[0]} 2`);
    expect(performance.now() - killed).toBeGreaterThan(LEASE_MS / 2);
    await expect.poll(() => b.said(), { timeout: 20_000 }).toContain(`lost ${vms[0]}`);
    const ofB = b.said().filter((line) => line.startsWith("took"));
    b.kill();
    const c = worker(schema, right.node, 0);
    const [, last, attempt] = ofB.at(-1)?.split(" ") ?? [];
    await expect.poll(() => c.said(), { timeout: 20_000 }).toContain(`took ${last} ${Number(attempt) + 1}`);
    await expect.poll(() => c.said(), { timeout: 20_000 }).toContain(`lost ${vms[1]}`);
  });
});

it.each([-HOUR, HOUR])("who asks a store's clock hears the database's time (off by %i ms)", async (offMs) => {
  const wall = Date.now.bind(Date);
  vi.spyOn(Date, "now").mockImplementation(() => wall() + offMs);
  const store = await open("asked");
  expect(Math.abs(store.clock.now() - wall())).toBeLessThan(2000);
});

describe("a process whose clocks leap, because its machine slept or somebody set them", () => {
  const node_id = newId("node");
  const free = { vcpus: 9, memory_mb: 9999, disk_gb: 99 };
  const claim = { node_id, subjects: ["pack.build"], free, leaseMs: HOUR };

  it.each([-HOUR, HOUR])("writes by the database's time at once (%i ms)", async (leapMs) => {
    const store = await open(leapMs > 0 ? "leapt" : "slept");
    const wall = Date.now.bind(Date);
    const monotonic = performance.now.bind(performance);
    let off = 0;
    vi.spyOn(Date, "now").mockImplementation(() => wall() + off);
    vi.spyOn(performance, "now").mockImplementation(() => monotonic() + off);
    const leap = () => {
      off = off === 0 ? leapMs : 0;
    };
    const isNow = (time = 0) => expect(Math.abs(time - wall())).toBeLessThan(2000);
    for (let round = 0; round < 2; round++) {
      leap();
      isNow((await store.submit(buildRequest())).operation.created_at);
      leap();
      const operation = await store.claim(claim);
      isNow((operation?.lease_until ?? 0) - HOUR);
      const lease = { operation_id: operation?.id as `op_${string}`, attempt: 1, node_id };
      leap();
      isNow(((await store.renew(lease, 2 * HOUR)).lease_until ?? 0) - 2 * HOUR);
      leap();
      await store.report(lease, { step: "s", message: "m", fraction: null });
      isNow((await store.operation(null, lease.operation_id)).progress?.at);
    }
  });

  it.each([-HOUR, HOUR])("reads by it at once where its own clocks disagree (%i ms)", async (leapMs) => {
    const store = await open(leapMs > 0 ? "leapt_reader" : "slept_reader");
    const monotonic = performance.now.bind(performance);
    let off = 0;
    vi.spyOn(performance, "now").mockImplementation(() => monotonic() + off);
    const is = async (id: string) => (await store.documents.get("a", id)) !== null;
    await store.documents.put({ kind: "a", id: "over", doc: 1, expires_at: Date.now() + 100 });
    await store.documents.put({ kind: "a", id: "there", doc: 1, expires_at: Date.now() + HOUR / 2 });
    await expect.poll(() => is("over")).toBe(false);
    for (off of [leapMs, 0, leapMs]) {
      expect(await Promise.all([is("over"), is("there")])).toEqual([false, true]);
    }
  });
});
