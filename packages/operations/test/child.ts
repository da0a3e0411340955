// One of several processes on the same file: `open`, `submit` without end, or `claim` until nothing is left. It prints an
// id only after the store acknowledged it.

import { readSync, writeSync } from "node:fs";
import { newId } from "@formation-mcp/contract";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { buildRequest } from "./request.ts";

const [role, path = ""] = process.argv.slice(2);
const say = (line: string) => writeSync(1, `${line}\n`);
say("up");
readSync(0, new Uint8Array(1)); // All begin at the same moment.
const store = await openSqliteStore({ path });

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
await store.close();
