// A worker for the comparison of worker counts, in a separate process: the real worker on PostgreSQL and
// NATS, with a builder that only waits. It reads its connections from one line of its input, and ends when
// the input ends.

import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import type { Builder, StoredImage } from "@formation-mcp/builder";
import { newId } from "@formation-mcp/contract";
import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { openPostgresStore } from "@formation-mcp/operations/postgres";
import { connectNats } from "@formation-mcp/os/nats";
import { createWorker } from "@formation-mcp/pack-manager";
import { openNatsQueue } from "@formation-mcp/queue/nats";

export interface Orders {
  database: string;
  nats: string;
  directory: string;
  holdMs: number;
  slots: number;
}

/** Only a wake-up makes a worker work: its polling is off. */
const NEVER_MS = 3_600_000;

function idleBuilder(holdMs: number): Builder {
  const images: StoredImage[] = [];
  return {
    async build({ formfile }) {
      if (holdMs > 0) await delay(holdMs);
      const process = { argv: ["/bin/true"], env: {}, workdir: "/", user: "" };
      const base = { reference: formfile.from, digest: "sha256:base" };
      const digest = `sha256:${newId("bld").slice(4).padStart(64, "0")}`;
      images.push({ digest, bytes: 0 });
      return { digest, bytes: 0, process, expose: formfile.expose, base };
    },
    disk: async () => "",
    images: async () => images,
    async *exportImage() {},
    importImage: async () => {},
    remove: async () => {},
    trim: async () => 0,
    recover: async () => {},
    destroy: async () => {},
    probe: async () => ({ driver: "idle", version: "1", ready: true, problems: [], enforced: [] }),
  };
}

async function main({ database, nats, directory, holdMs, slots }: Orders): Promise<void> {
  const connection = await connectNats({ servers: [nats], name: "bench-worker" });
  const id = newId("node");
  const worker = createWorker({
    store: await openPostgresStore({ url: database, migrate: false }),
    queue: await openNatsQueue({ connection, manage: false }),
    artifacts: await openDirectoryArtifacts({ path: join(directory, "artifacts") }),
    builder: idleBuilder(holdMs),
    hypervisor: await openFakeHypervisor({ stateDir: join(directory, id) }),
    scratchDir: join(directory, `${id}-scratch`),
    node: {
      id,
      name: id,
      labels: {},
      capacity: { vcpus: 64, memory_mb: 65_536, disk_gb: 1_000 },
      engine: { builder: "idle", hypervisor: "fake", accelerator: "tcg", profile: "user" },
      pid: process.pid,
      program: "bench",
    },
    settings: { slots, buildSlots: slots, pollEveryMs: NEVER_MS, sweepEveryMs: NEVER_MS },
  });
  await worker.start();
  process.stdout.write("ready\n");
}

const lines = createInterface({ input: process.stdin });
lines.once("line", (line) => {
  main(JSON.parse(line) as Orders).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.stack : String(error)}\n`);
    process.exit(1);
  });
});
lines.once("close", () => process.exit(0));
