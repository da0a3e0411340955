// One node whose worker has scripted drivers. Workers may follow one another on it.

import { join } from "node:path";
import { type Id, type Instance, newId } from "@formation-mcp/contract";
import type { Worker } from "@formation-mcp/pack-manager";
import {
  type ScriptedBuilder,
  type ScriptedHypervisor,
  scriptedBuilder,
  scriptedHypervisor,
} from "./scripted-drivers.ts";
import { openTestBed, type TestBed, type TestWorkerOptions } from "./test-bed.ts";

export interface Lab extends Omit<TestBed, "startWorker"> {
  builder: ScriptedBuilder;
  hypervisor: ScriptedHypervisor;
  node: Id<"node">;
  /** Starts a worker. The one before it must be stopped. */
  worker(options?: Partial<TestWorkerOptions>): Promise<Worker>;
  instance(id: Id<"vm">): Promise<Instance>;
  log(name: string): Promise<string[]>;
}

export async function openLab(): Promise<Lab> {
  const { startWorker, ...bed } = await openTestBed({ shared: false });
  const [builder, hypervisor] = [scriptedBuilder(), scriptedHypervisor()];
  const node = newId("node");
  return {
    ...bed,
    builder,
    hypervisor,
    node,
    worker: ({ settings, ...options } = {}) =>
      startWorker({
        node: { id: node, capacity: { vcpus: 16, memory_mb: 4096, disk_gb: 100 } },
        builder,
        hypervisor,
        scratchDir: join(bed.directory, "scratch"),
        settings: { pollEveryMs: 500, ...settings },
        ...options,
      }),
    instance: (id) => bed.store.instance(null, id),
    async log(name) {
      const page = await bed.artifacts.readLog(name, { maxBytes: 100_000 });
      return page.lines.map((line) => line.text);
    },
  };
}
