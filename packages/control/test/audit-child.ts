// A server process that the test kills. It calls tools in an endless loop and prints the trace id and the
// outcome of each call after its answer.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { allScopes } from "@formation-mcp/auth";
import { FormationError } from "@formation-mcp/contract";
import { createControl, openAudit } from "@formation-mcp/control";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";

const dir = process.argv[2] ?? "";
const store = await openSqliteStore({ path: join(dir, "store.db") });
const queue = await openEmbeddedQueue({ path: join(dir, "queue.db") });
const artifacts = await openDirectoryArtifacts({ path: join(dir, "artifacts") });
const audit = openAudit({ store: store.audit, sealEveryMs: 50 });
const control = createControl({ store, queue, artifacts, audit });
const principal = { owner: "alice", scopes: allScopes(), local: false };

const CALLS: [string, Record<string, unknown>][] = [
  ["vm_list", {}],
  ["vm_status", { instance: "nothing" }],
  ["vm_create", { image: "busybox", wait_seconds: 0 }],
  ["operation_list", {}],
];

async function one(name: string, input: Record<string, unknown>): Promise<void> {
  const traceId = randomBytes(16).toString("hex");
  const made = name === "vm_create" ? { ...input, instance_name: `vm-${traceId.slice(0, 12)}` } : input;
  const outcome = await control.call(principal, name, made, { traceId, address: "192.0.2.1" }).then(
    () => "ok",
    (error: unknown) => FormationError.from(error).code,
  );
  process.stdout.write(`${traceId} ${name} ${outcome}\n`);
}

for (;;) {
  await Promise.all(CALLS.map(([name, input]) => one(name, input)));
  await new Promise((resolve) => setTimeout(resolve, 1));
}
