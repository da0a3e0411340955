// A worker as a process of its own. It prints "ready" when it works, and leaves on SIGTERM. Run it with
// `node --conditions=formation-source worker.ts <directory> <fake|real> <node id> [<shared directory>]`.

import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { FormationError, parseId } from "@formation-mcp/contract";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { tryLock } from "@formation-mcp/os/sqlite";
import { createWorker } from "@formation-mcp/pack-manager";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";
import { sharedArtifacts } from "./shared-artifacts.ts";
import { openBuilder, openHypervisor, siteAt } from "./site.ts";

const [root, drivers, nodeId, shared] = process.argv.slice(2);
if (root === undefined || (drivers !== "fake" && drivers !== "real") || nodeId === undefined) {
  throw new FormationError("invalid", "usage: worker.ts <directory> <fake|real> <node id>");
}
const site = siteAt(root, shared);
const lock = await tryLock(site.lock);
if (!lock) throw new FormationError("conflict", "Another worker has this directory.");

const store = await openSqliteStore({ path: site.store });
const queue = await openEmbeddedQueue({ path: site.queue });
const kept = await openDirectoryArtifacts({ path: site.artifacts });
const artifacts = shared === undefined ? kept : sharedArtifacts(kept);
const builder = await openBuilder(site, drivers);
const hypervisor = await openHypervisor(site, drivers);
const worker = createWorker({
  store,
  queue,
  artifacts,
  builder,
  hypervisor,
  scratchDir: site.scratch,
  node: {
    id: parseId("node", nodeId, "node id"),
    name: "here",
    labels: {},
    capacity: { vcpus: 64, memory_mb: 65_536, disk_gb: 1000 },
    engine: { builder: drivers, hypervisor: drivers, accelerator: "tcg", profile: "user" },
    pid: process.pid,
    program: "1.0.0",
  },
  logger: {
    log: (level, message, fields) => {
      process.stderr.write(
        `${new Date().toISOString()} ${level} ${message} ${JSON.stringify(fields ?? {})}\n`,
      );
    },
  },
  settings: {
    leaseMs: 5000,
    retryBaseMs: 50,
    stopMs: 1000,
    batchMs: 50,
    reconcileEveryMs: 1000,
    sweepEveryMs: 1000,
  },
});
await worker.start();
const left = new Promise((resolve) => process.once("SIGTERM", resolve));
process.stdout.write("ready\n");
await left;
await worker.stop();
await hypervisor.close();
await queue.close();
await artifacts.close();
await store.close();
lock.release();
