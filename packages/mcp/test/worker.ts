// A worker beside a test's store, queue and artifacts, with the engines that run everything as child processes.

import { join } from "node:path";
import { openFakeBuilder } from "@formation-mcp/builder/fake";
import { newId } from "@formation-mcp/contract";
import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { createWorker, type WorkerOptions } from "@formation-mcp/pack-manager";

/** @returns what ends the worker and everything that it runs. */
export async function startWorker(
  dir: string,
  records: Pick<WorkerOptions, "store" | "queue" | "artifacts">,
): Promise<() => Promise<void>> {
  const builder = await openFakeBuilder({ stateDir: join(dir, "b") });
  const hypervisor = await openFakeHypervisor({ stateDir: join(dir, "h") });
  const worker = createWorker({
    ...records,
    builder,
    hypervisor,
    scratchDir: join(dir, "scratch"),
    node: {
      id: newId("node"),
      name: "here",
      labels: {},
      capacity: { vcpus: 64, memory_mb: 65_536, disk_gb: 1000 },
      engine: { builder: "fake", hypervisor: "fake", accelerator: "tcg", profile: "user" },
      pid: process.pid,
      program: "1.0.0",
    },
    settings: { stopMs: 500, batchMs: 20 },
  });
  await worker.start();
  return async () => {
    for (const machine of await hypervisor.list()) await hypervisor.remove(machine.id);
    await worker.stop();
    await hypervisor.close();
  };
}
