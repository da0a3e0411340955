// The packages without a server: store, queue, artifacts, control and a worker in one process. The fake
// engines run the workload as a child process, so this needs neither root nor QEMU. For VMs open
// `@formation-mcp/builder/buildah` and `@formation-mcp/hypervisor/qemu` instead; nothing else changes.

import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openDirectoryArtifacts } from "@formation-mcp/artifacts/directory";
import { localPrincipal } from "@formation-mcp/auth";
import { openFakeBuilder } from "@formation-mcp/builder/fake";
import { newId } from "@formation-mcp/contract";
import { createControl } from "@formation-mcp/control";
import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { openSqliteStore } from "@formation-mcp/operations/sqlite";
import { createWorker } from "@formation-mcp/pack-manager";
import { openEmbeddedQueue } from "@formation-mcp/queue/embedded";

const directory = await mkdtemp(join(tmpdir(), "formation-embed-"));
const store = await openSqliteStore({ path: join(directory, "formation.db") });
const queue = await openEmbeddedQueue({ path: join(directory, "queue.db") });
const artifacts = await openDirectoryArtifacts({ path: join(directory, "artifacts") });
const builder = await openFakeBuilder({ stateDir: join(directory, "builder") });
const hypervisor = await openFakeHypervisor({ stateDir: join(directory, "hypervisor") });
const worker = createWorker({
  store,
  queue,
  artifacts,
  builder,
  hypervisor,
  scratchDir: join(directory, "scratch"),
  node: {
    id: newId("node"),
    name: "here",
    labels: {},
    capacity: { vcpus: 4, memory_mb: 4096, disk_gb: 20 },
    engine: { builder: "fake", hypervisor: "fake", accelerator: "tcg", profile: "user" },
    pid: process.pid,
    program: "embed",
  },
});
await worker.start();
const control = createControl({ store, queue, artifacts });
const me = localPrincipal(process.getuid?.() ?? 0);

/** Calls a tool and follows the operation that it starts to its end. */
async function finished(tool: string, input: Record<string, unknown>): Promise<Record<string, unknown>> {
  let seen = await control.call(me, tool, input);
  while (seen["done"] !== true) {
    seen = await control.call(me, "operation_get", { id: seen["operation_id"], wait_seconds: 20 });
  }
  return seen;
}

try {
  const port = await freePort(); // a fake machine shares the ports of this host
  const built = await finished("pack_build", {
    formfile: {
      from: "busybox",
      name: "hello",
      include: ["server.mjs"],
      run: ["echo 'Hello from a build.' > page.txt"],
      expose: [port],
      entrypoint: [process.execPath, "server.mjs", `${port}`],
    },
    context_files: {
      "server.mjs": `import { readFileSync } from "node:fs";
import { createServer } from "node:http";
createServer((request, response) => response.end(readFileSync("page.txt"))).listen(Number(process.argv[2]));`,
    },
  });
  await finished("pack_ship", { build_id: built["build_id"], instance_name: "hello" });
  const { urls } = (await control.call(me, "vm_status", { instance: "hello" })) as { urls: string[] };
  const [url = ""] = urls;
  const response = await fetch(url);
  process.stdout.write(`${url} answers: ${await response.text()}`);
  await finished("vm_delete", { instance: "hello", confirm: "hello" });
} finally {
  await worker.stop();
  await hypervisor.close();
  await queue.close();
  await artifacts.close();
  await store.close();
  await rm(directory, { recursive: true, force: true });
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("This host gave no port.");
  return address.port;
}
