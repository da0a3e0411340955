// One of several processes on the same file or, with STORE_URL, database: `open`, `submit` without end, or one of those below, until nothing is left. It
// prints what it got only after the store acknowledged it.

import { readSync, writeSync } from "node:fs";
import { NO_QUOTA, newId } from "@formation-mcp/contract";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "@formation-mcp/operations/testing";

const [role, path = ""] = process.argv.slice(2);
const say = (line: string) => writeSync(1, `${line}\n`);
say("up");
readSync(0, new Uint8Array(1)); // All begin at the same moment.
const url = process.env["STORE_URL"];
const store = url ? await openPostgresStore({ url }) : await openSqliteStore({ path });

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
