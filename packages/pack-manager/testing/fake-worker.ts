// A worker over a test's store, queue and artifacts. Its fake drivers run workloads as child processes.

import { join } from "node:path";
import { openFakeBuilder } from "@formation-mcp/builder/fake";
import { newId } from "@formation-mcp/contract";
import { openFakeHypervisor } from "@formation-mcp/hypervisor/fake";
import { createWorker, type WorkerOptions } from "@formation-mcp/pack-manager";

/** @returns the function that stops the worker and removes its machines. */
export async function startFakeWorker(
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
