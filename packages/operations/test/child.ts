// One of several processes on the same file or, with STORE_URL, the same database. Its role is `open`,
// `submit` without end, or one of those below until no work is left. It prints a result after the store
// acknowledged it.

import { readSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { NO_QUOTA, newId } from "@formation-mcp/contract";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing/build-request";

const [role, path = ""] = process.argv.slice(2);
const say = (line: string) => writeSync(1, `${line}\n`);
say("up");
readSync(0, new Uint8Array(1)); // All begin at the same moment.
const url = process.env["STORE_URL"];
const schema = process.env["STORE_SCHEMA"] ?? "formation";
const store = url ? await openPostgresStore({ url, schema }) : await openSqliteStore({ path });

if (role === "open") say(String((await store.nodes()).length));
if (role === "submit") for (;;) say((await store.submit(buildRequest())).operation.id);
if (role === "claim") {
  const node_id = newId("node");
  const free = { vcpus: 1, memory_mb: 512, disk_gb: 5 };
  for (;;) {
    const operation = await store.claim({ node_id, subjects: ["pack.build"], free, leaseMs: 60_000 });
    if (!operation) break;
    const lease = { operation_id: operation.id, attempt: operation.attempt, node_id };
    await store.renew(lease, 60_000);
    await store.settle(lease, { state: "failed", error: { code: "invalid", message: "No." } });
    say(`${operation.id} ${operation.attempt}`);
  }
}
if (role === "take") {
  for (let id = 0; id < 500; id++) if (await store.documents.take("challenge", `${id}`)) say(`${id}`);
}
if (role === "count") {
  for (let done = 0; done < 100; ) {
    const there = await store.documents.get<number>("number", "1");
    const next = { kind: "number", id: "1", doc: (there?.doc ?? 0) + 1 };
    const written = await store.documents.put(next, there?.version ?? 0).catch(() => null);
    if (written) say(`${++done}`);
  }
}
if (role === "spend") {
  const request = { key: "k", limit: 1000, windowMs: 1e12, amount: 3 };
  for (;;) {
    const { granted } = await store.counters.spend(request);
    if (granted === 0) break;
    say(`${granted}`);
  }
}
if (role === "work") {
  // `path` is its node. It keeps its leases, claims what other processes lost, and prints what it found.
  const id = path as `node_${string}`;
  const leaseMs = Number(process.env["LEASE_MS"]);
  const day = 86_400_000;
  const held: { operation_id: `op_${string}`; attempt: number; node_id: typeof id }[] = [];
  for (;;) {
    await store.registerNode({
      ...{ id, name: "n", labels: {}, capacity: { vcpus: 1, memory_mb: 1, disk_gb: 1 }, pid: 1 },
      ...{ engine: { builder: "b", hypervisor: "h", accelerator: "tcg", profile: "user" }, program: "1" },
      draining: false,
    });
    for (const lease of held) await store.renew(lease, leaseMs);
    const free = { vcpus: 9, memory_mb: 9999, disk_gb: 99 };
    const taken = await store.claim({ node_id: id, subjects: ["pack.build"], free, leaseMs });
    if (taken) {
      held.push({ operation_id: taken.id, attempt: taken.attempt, node_id: id });
      say(`took ${taken.id} ${taken.attempt}`);
    }
    for (const instance of await store.markLost(leaseMs)) say(`lost ${instance.id}`);
    const swept = await store.sweep({ operationKeptMs: day, strandedMs: day, unusedBuildKeptMs: day });
    for (const { id, attempt, state } of swept.changed) say(`swept ${id} ${attempt} ${state}`);
    say("round");
    await delay(50);
  }
}
if (role === "quota") {
  for (;;) {
    const made = await store
      .submit({ ...buildRequest(), quota: { ...NO_QUOTA, builds: 300 } })
      .catch((error) => {
        if (error.code !== "limit") throw error;
      });
    if (!made) break;
    say(made.operation.id);
  }
}
await store.close();
